"""Square crops around a face that stay in place for a whole clip."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...faces import crop as faces_crop
from ...faces.face import Face

SLACK = 0.25  # of the side: how far the square may have to move or shrink


class Box(NamedTuple):
    """Edges of a rectangle, in pixels; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Area in pixels; 0 if the edges are in the wrong order."""
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)


class Crop(NamedTuple):
    """A square of whole pixels."""

    left: int
    top: int
    side: int


def face_crop(boxes: Sequence[Box], size: tuple[int, int], margin: float) -> Crop | None:
    """Place a square inside the image around all boxes of a face together, as `faces.crop.face_crop` around one.

    Args:
        boxes: of the face in several frames, at least one.
        size: (height, width) of the image.
        margin: side of the square over that of the boxes, at least 1.

    Returns:
        None if the square would have to move or shrink by more than `SLACK` of its side to be inside the image. Of an
        image that `faces.crop.whole_image` takes for a crop already, the central square is returned.
    """
    height, width = size
    left, top, right, bottom = _union(boxes, size)
    face = Face(np.array([left, top, right, bottom], np.float32) - 0.5, np.zeros((6, 2), np.float32), 1.0)
    whole, usual = central_square(size), faces_crop.face_crop(face)
    if faces_crop.whole_image(usual, size) != usual and _contains(whole, left, top, right, bottom):
        return whole
    (x, y), wanted, _ = faces_crop.face_crop(face, factor=margin)
    x, y = x + 0.5, y + 0.5  # from centers to edges of pixels
    beyond = [
        max(0, wanted / 2 - middle) + max(0, middle + wanted / 2 - edge) for middle, edge in ((x, width), (y, height))
    ]
    if max(beyond) > SLACK * wanted:
        return None
    side = min(int(np.ceil(round(wanted, 3))), whole.side)  # rounded, so that rounding errors add no pixel
    crop = Crop(_start(x, side, width, left, right), _start(y, side, height, top, bottom), side)
    return crop if _contains(crop, left, top, right, bottom) else None


def central_square(size: tuple[int, int]) -> Crop:
    """Largest square in the middle of an image of `size`, (height, width) in pixels."""
    side = min(size)
    return Crop((size[1] - side) // 2, (size[0] - side) // 2, side)


def _union(boxes: Sequence[Box], size: tuple[int, int]) -> Box:
    """Smallest box around all boxes, clipped to the image; detectors also find faces that are half outside."""
    edges = np.array(boxes)
    low, high = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    return Box(*np.maximum(low, 0), *np.minimum(high, size[::-1]))


def _start(middle: float, side: int, edge: int, low: float, high: float) -> int:
    """First pixel of a square along one axis: inside the image and, if possible, around `low` to `high`."""
    start = round(min(max(middle - side / 2, high - side), low))
    return min(max(start, 0), edge - side)


def _contains(crop: Crop, left: float, top: float, right: float, bottom: float) -> bool:
    inside_x = crop.left <= np.ceil(left) and np.floor(right) <= crop.left + crop.side
    return bool(inside_x and crop.top <= np.ceil(top) and np.floor(bottom) <= crop.top + crop.side)
