"""What the metrics of evaluation want to know of a face, whoever finds it out."""

from typing import Protocol

from torch import Tensor


class LandmarkDetector(Protocol):
    """Finds the 68 points of a face, in the order of iBUG 300-W.

    Of images (B, 3, H, W) in [0, 1] it makes (B, 68, 2): (x, y) in pixels, whose centers are integers; on the CPU, NaN
    where there is no face.

    Attributes:
        name: what made the numbers, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class IdentityEmbedder(Protocol):
    """Says who it is.

    Of images (B, 3, H, W) in [0, 1] it makes (B, E) of length 1: the product of two is the cosine of their angle; on
    the CPU, NaN where there is no face.

    Attributes:
        name: what made the numbers, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class HeadPoseEstimator(Protocol):
    """Says where the head is turned to.

    Of images (B, 3, H, W) in [0, 1] it makes (B, 3) degrees, on the CPU, NaN where there is no face: yaw, positive when
    the nose points to the left of the picture; pitch, positive when it points up; roll, positive when the head is
    tilted clockwise in the picture.

    Attributes:
        name: what made the numbers, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class ActionUnitDetector(Protocol):
    """Says which muscles of the face are at work (FACS).

    Of images (B, 3, H, W) in [0, 1] it makes (B, A), 1 for an action unit that is seen and 0 for one that is not; on
    the CPU, NaN where there is no face.

    Attributes:
        name: what made the numbers, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...
