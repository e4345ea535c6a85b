"""Interfaces of face feature extractors."""

from typing import Protocol

from torch import Tensor


class LandmarkDetector(Protocol):
    """Facial landmarks: 68 points in the order of iBUG 300-W.

    Maps images (B, 3, H, W) in [0, 1] to (B, 68, 2): (x, y) in pixels, whose centers are integers; on the CPU, NaN
    where no face is found.

    Attributes:
        name: library and model, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class IdentityEmbedder(Protocol):
    """Identity embedding.

    Maps images (B, 3, H, W) in [0, 1] to (B, E) of length 1, so that the dot product of two is their cosine similarity;
    on the CPU, NaN where no face is found.

    Attributes:
        name: library and model, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class HeadPoseEstimator(Protocol):
    """Head pose.

    Maps images (B, 3, H, W) in [0, 1] to (B, 3) in degrees, on the CPU, NaN where no face is found: yaw, positive when
    the nose points to the left of the image; pitch, positive when it points up; roll, positive when the head is tilted
    clockwise in the image.

    Attributes:
        name: library and model, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class ActionUnitDetector(Protocol):
    """Facial action units (FACS).

    Maps images (B, 3, H, W) in [0, 1] to (B, A), 1 for an action unit that is present and 0 for one that is absent; on
    the CPU, NaN where no face is found.

    Attributes:
        name: library and model, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class ExpressionEstimator(Protocol):
    """Opening of mouth and eyes.

    Maps images (B, 3, H, W) in [0, 1] to (B, 3): [`mouth_opening`][depthaware.metrics.mouth_opening],
    [`mouth_width`][depthaware.metrics.mouth_width] and [`eye_opening`][depthaware.metrics.eye_opening]; on the CPU, NaN
    where no face is found.

    Attributes:
        name: library and model, for the report.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


FaceExtractor = LandmarkDetector | IdentityEmbedder | HeadPoseEstimator | ActionUnitDetector | ExpressionEstimator
"""Any of the extractors."""
