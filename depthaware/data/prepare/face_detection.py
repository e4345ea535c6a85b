"""Face detection on the frames of raw videos."""

from collections.abc import Callable
from typing import NamedTuple

import av
import numpy as np

from ...media.image import Image
from .face_crops import Box, central_square

SMALLEST_FACE = 80  # pixels: the window of dlib's detector

FaceDetector = Callable[[Image], tuple[Box, ...]]
"""uint8 (H, W, 3) -> the faces in it, the largest first."""


class Detection(NamedTuple):
    """Faces found in a frame.

    Attributes:
        frame: number of the frame.
        faces: their boxes, the largest first.
    """

    frame: int
    faces: tuple[Box, ...]


def dlib_detector(side: int) -> FaceDetector:
    """Make a detector of frontal faces with dlib, which runs on a reduced image.

    dlib finds faces from 80 pixels on, that is, from 80 / `side` of the shorter side of the image. Where it finds none,
    the image is searched again at three quarters of the size: its windows grow in steps, and a face may fall between.
    Needs the extra ``eval``.

    Args:
        side: shorter side of the reduced image, in pixels, at least 80.
    """
    from ...extractors.dlib_faces import dlib_faces

    detector = dlib_faces().detector

    def detect(image: Image) -> tuple[Box, ...]:
        shorter = min(image.shape[:2])
        scale = min(side, max(shorter, 256)) / shorter
        return detect_at(image, scale) or detect_at(image, 0.75 * scale)

    def detect_at(image: Image, scale: float) -> tuple[Box, ...]:
        height, width = image.shape[:2]
        small = image if scale == 1 else resize(image, (round(scale * height), round(scale * width)))
        edges = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in detector(small, 0)]
        return tuple(sorted((Box(*(x / scale for x in box)) for box in edges), key=lambda box: -box.area))

    return detect


def central_detector(image: Image) -> tuple[Box, ...]:
    """Take the central square for a face: the `FaceDetector` of images that are face crops already."""
    left, top, side = central_square(image.shape[:2])
    return (Box(left, top, left + side, top + side),)


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize an image by bicubic interpolation to `size`, (height, width) in pixels."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return (
        frame.reformat(width=size[1], height=size[0], interpolation="BICUBIC").to_ndarray().astype(np.uint8, copy=False)
    )
