"""Face detection on the frames of raw videos."""

from collections.abc import Callable
from typing import NamedTuple

from ...faces import FaceDetector
from ...media.image import Image
from .face_crops import Box, central_square

BoxDetector = Callable[[Image], tuple[Box, ...]]
"""uint8 (H, W, 3) -> the faces in it, the largest first."""


class Detection(NamedTuple):
    """Faces found in a frame.

    Attributes:
        frame: number of the frame.
        faces: their boxes, the largest first.
    """

    frame: int
    faces: tuple[Box, ...]


def face_boxes(detector: FaceDetector) -> BoxDetector:
    """Make a detector of boxes with edges of pixels from one of faces, whose coordinates are centers of pixels."""

    def detect(image: Image) -> tuple[Box, ...]:
        (faces,) = detector([image])
        return tuple(Box(*(face.box + 0.5).tolist()) for face in faces)

    return detect


def central_detector(image: Image) -> tuple[Box, ...]:
    """Take the central square for a face: the `BoxDetector` of images that are face crops already."""
    left, top, side = central_square(image.shape[:2])
    return (Box(left, top, left + side, top + side),)
