"""A square of an image around a face, in the proportions of the training images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from .face import Face, roll

if TYPE_CHECKING:  # reading images needs PyTorch
    from ..media.image import Image

FACTOR, LIFT = 2.2, 0.11
"""Side of the square, and how far its center lies above that of the face's box, in sides of the box. Training images
have 2.0 and 0.11 in the median, and three of four at most 2.2 (examples/benchmarks/measure_crops.py): on the wide side,
motion comes over better, and hair and its motion stay inside."""
FACTORS, SHIFT = (1.60, 2.66), 0.17
"""Sides, and shifts of the center, of nine of ten training images."""


class Crop(NamedTuple):
    """A square of an image, which may leave it and may be tilted. Pixels have their centers at integers.

    Attributes:
        center: (x, y) in pixels.
        side: in pixels.
        angle: in radians, clockwise in the image, as `roll`.
    """

    center: tuple[float, float]
    side: float
    angle: float = 0.0

    def read(self, image: Image, size: int) -> Image:
        """Resample the square, anti-aliased; beyond the image its edge goes on.

        Args:
            image: uint8 (H, W, 3).
            size: side of the result in pixels.

        Returns:
            uint8 (size, size, 3).
        """
        if self.angle == 0:
            return np.asarray(self._read(image, size))
        margin = math.ceil(size * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)) - 1) / 2)
        around = Crop(self.center, self.side * (size + 2 * margin) / size)._read(image, size + 2 * margin)
        upright = around.rotate(math.degrees(self.angle), Pillow.Resampling.BICUBIC)
        return np.asarray(upright.crop((margin, margin, margin + size, margin + size)))

    def _read(self, image: Image, size: int) -> Pillow.Image:
        margin = math.ceil(2 * self.side / size) + 2  # reach of the resampling kernel
        left, top = (center + 0.5 - self.side / 2 for center in self.center)
        x, y, side = math.floor(left) - margin, math.floor(top) - margin, math.ceil(self.side) + 1 + 2 * margin
        box = (left - x, top - y, left - x + self.side, top - y + self.side)
        window = Pillow.fromarray(_window(image, x, y, side))
        return window.resize((size, size), Pillow.Resampling.BICUBIC, box, reducing_gap=2.0)

    def scaled(self, scale: float) -> Crop:
        """Return the same square of the image resized by `scale`."""
        x, y = ((middle + 0.5) * scale - 0.5 for middle in self.center)
        return Crop((x, y), self.side * scale, self.angle)

    def to_image(self, points: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
        """Map points (..., 2) of the square that was read at `size` to points of the image."""
        return (points - (size - 1) / 2) @ self._axes(size) + np.array(self.center)

    def from_image(self, points: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
        """Map points (..., 2) of the image to points of the square read at `size`."""
        return (points - np.array(self.center)) @ np.linalg.inv(self._axes(size)) + (size - 1) / 2

    def _axes(self, size: int) -> npt.NDArray[np.floating]:
        """Steps in the image, (2, 2), of one pixel to the right and one down in the square."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]]) * self.side / size


def face_crop(face: Face, *, factor: float = FACTOR, lift: float = LIFT, upright: bool = True) -> Crop:
    """Place a square around a face as the training images do.

    Args:
        face: as detected.
        factor: side of the square over that of the box.
        lift: how far the center of the square lies above that of the box, in sides of the box.
        upright: False tilts the square as the head is tilted.

    Returns:
        A square that may leave the image.
    """
    left, top, right, bottom = face.box.tolist()
    side, angle = max(right - left, bottom - top), 0.0 if upright else roll(face)
    center = (
        (left + right) / 2 + math.sin(angle) * lift * side,
        (top + bottom) / 2 - math.cos(angle) * lift * side,
    )
    return Crop(center, factor * side, angle)


def whole_image(crop: Crop, size: tuple[int, ...]) -> Crop:
    """Replace the crop of a face by the central square of its image if that is a face crop already.

    It is if the image is nearly square and lies around the face as nine of ten training images do.

    Args:
        crop: from `face_crop`.
        size: (height, width) of the image.
    """
    height, width = size[:2]
    side, box = min(height, width), crop.side / FACTOR
    center = ((width - 1) / 2, (height - 1) / 2)
    shift = max(abs(a - b) for a, b in zip(center, crop.center, strict=True))
    usual = FACTORS[0] <= side / box <= FACTORS[1] and shift <= SHIFT * box
    return Crop(center, side) if usual and max(height, width) <= 1.1 * side else crop


def _window(image: Image, x: int, y: int, side: int) -> Image:
    """Cut out a square of whole pixels; beyond the image its edge is repeated."""
    cuts, widths = [], []
    for start, length in ((y, image.shape[0]), (x, image.shape[1])):
        first, last = (min(max(end, 0), length - 1) for end in (start, start + side - 1))
        before = min(max(-start, 0), side - 1)
        cuts.append(slice(first, last + 1))
        widths.append((before, side - before - (last + 1 - first)))
    inside = image[tuple(cuts)]
    return np.pad(inside, (*widths, (0, 0)), mode="edge") if np.any(widths) else np.ascontiguousarray(inside)
