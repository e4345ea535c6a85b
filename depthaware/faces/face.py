"""A detected face, and the interface of detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # reading images needs PyTorch
    from ..media.image import Image


class Face(NamedTuple):
    """A face in an image. Coordinates are (x, y) in pixels, whose centers are integers.

    Attributes:
        box: (4,) left, top, right, bottom, float32; it may leave the image.
        points: (6, 2) right eye, left eye, nose tip, center of the mouth, right ear, left ear, float32. Right is the
            person's right, which lies on the left of the image when the head is upright.
        score: of the detector, in (0, 1).
    """

    box: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    score: float


def roll(face: Face) -> float:
    """Angle in radians by which the line through the eyes is tilted clockwise in the image, 0 for an upright face."""
    x, y = face.points[1] - face.points[0]
    return math.atan2(y, x)


class FaceDetector(Protocol):
    """Face detection: images, uint8 (H, W, 3) of any sizes, to the faces of each image, the largest first."""

    def __call__(self, images: Sequence[Image]) -> list[list[Face]]: ...
