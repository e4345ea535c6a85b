"""Generated squares back into the image from which they were cropped, without a seam."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from .crop import Crop

if TYPE_CHECKING:  # reading images needs PyTorch
    from ..media.image import Image

FEATHER = 0.12
"""Width of the border over which a square fades into the image, in sides of the square."""

Floats = npt.NDArray[np.floating]


class Paste:
    """Pastes generated squares into an image, frame after frame; masks are made once.

    A square fades out towards those of its sides that lie inside the image, and towards the faces of other squares; the
    mean color of its fading border is made that of the image. No other pixel is touched.

    Args:
        image: uint8 (H, W, 3).
        crops: where the squares were read, see `Crop.read`.
        size: side of the generated squares in pixels.
    """

    def __init__(self, image: Image, crops: Sequence[Crop], size: int) -> None:
        self.image = image
        self._spots = [_spot(image, crop, [other for other in crops if other is not crop], size) for crop in crops]

    def __call__(self, patches: Sequence[Image]) -> Image:
        """Paste a square, uint8 (size, size, 3), for each crop; returns a new image (H, W, 3)."""
        result = self.image.copy()
        for spot, patch in zip(self._spots, patches, strict=True):
            spot.paste(result, patch)
        return result


class _Spot(NamedTuple):
    """Pixels of the image under a square, its opacity there, and the image under its border as the square sees it."""

    crop: Crop
    rows: slice
    columns: slice
    mask: Pillow.Image
    border: npt.NDArray[np.bool_]
    colors: npt.NDArray[np.int16]

    def paste(self, image: Image, patch: Image) -> None:
        if 0 in self.mask.size:
            return
        shift = _robust_mean(self.colors - patch[self.border])
        matched = Pillow.fromarray(np.clip(np.rint(patch + shift), 0, 255).astype(np.uint8))
        below = Pillow.fromarray(np.ascontiguousarray(image[self.rows, self.columns]))
        image[self.rows, self.columns] = np.asarray(Pillow.composite(self._enlarge(matched), below, self.mask))

    def _enlarge(self, patch: Pillow.Image) -> Pillow.Image:
        """Resample the square at the pixels of the image."""
        bicubic, angle = Pillow.Resampling.BICUBIC, self.crop.angle
        far = self.crop.side > 2 * patch.width  # enlarged by rows and columns first, which halves the time
        if angle and (far or self.crop.side < patch.width):  # the transform below does not smooth
            patch = patch.resize((math.ceil(self.crop.side),) * 2, bicubic)
        step, middle = patch.width / self.crop.side, patch.width / 2
        dx, dy = self.columns.start - 0.5 - self.crop.center[0], self.rows.start - 0.5 - self.crop.center[1]
        a, b = step * math.cos(angle), step * math.sin(angle)
        x, y = middle + a * dx + b * dy, middle - b * dx + a * dy
        if angle:
            kernel = Pillow.Resampling.BILINEAR if far else bicubic
            return patch.transform(self.mask.size, Pillow.Transform.AFFINE, (a, b, x, -b, a, y), kernel)
        right, bottom = (start + step * length for start, length in zip((x, y), self.mask.size, strict=True))
        end = patch.width
        return patch.resize(self.mask.size, bicubic, (max(x, 0), max(y, 0), min(right, end), min(bottom, end)))


def _spot(image: Image, crop: Crop, others: Sequence[Crop], size: int) -> _Spot:
    height, width = image.shape[:2]
    reach = crop.side / 2 * (abs(math.cos(crop.angle)) + abs(math.sin(crop.angle)))
    columns, rows = (
        slice(max(math.ceil(middle - reach + 0.5), 0), max(math.floor(middle + reach + 0.5), 0))
        for middle in crop.center
    )
    y, x = np.mgrid[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
    opacity = _opacity(crop, others, np.stack((x, y), axis=-1), (height, width))
    mask = Pillow.fromarray(np.rint(255 * opacity).astype(np.uint8))
    v, u = np.mgrid[:size, :size]
    points = crop.to_image(np.stack((u, v), axis=-1), size)
    border = (_opacity(crop, [], points, (height, width)) < 1) & _inside(points, (height, width))
    colors = crop.read(image, size)[border].astype(np.int16)
    return _Spot(crop, rows, columns, mask, border, colors)


def _opacity(crop: Crop, others: Sequence[Crop], points: Floats, size: tuple[int, int]) -> Floats:
    """Opacity of a square in [0, 1] at points (..., 2) of an image of `size`."""
    place = crop.from_image(points, 1)  # in sides of the square, from its center
    opacity = (abs(place).max(-1) <= 0.5).astype(np.float64)
    for axis, sign in _visible_sides(crop, size):
        opacity *= _ramp((0.5 - sign * place[..., axis]) / FEATHER)
    for other in others:
        farther = np.linalg.norm(other.from_image(points, 1), axis=-1) - np.linalg.norm(place, axis=-1)
        opacity *= _ramp(0.5 + farther / FEATHER)
    return opacity


def _visible_sides(crop: Crop, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Axis and direction of the sides of a square of which a part lies inside an image of `size`."""
    along = np.linspace(-0.5, 0.5, 65)
    for axis in (0, 1):
        for sign in (-1, 1):
            side = np.full((len(along), 2), sign * 0.5)
            side[:, 1 - axis] = along
            if _inside(crop.to_image(side, 1), size, margin=1).any():
                yield axis, sign


def _inside(points: Floats, size: tuple[int, int], margin: float = 0) -> Any:
    """Tell which points (..., 2) lie in an image of `size`, that many pixels from its border."""
    return ((points >= margin - 0.5) & (points <= np.array(size[::-1]) - 0.5 - margin)).all(-1)


def _ramp(position: Floats) -> Floats:
    """Smooth step from 0 at 0 to 1 at 1."""
    position = position.clip(0, 1)
    return position**2 * (3 - 2 * position)


def _robust_mean(differences: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Mean per channel of differences (n, 3) near their median: where something moved they say nothing on color."""
    if not len(differences):
        return np.zeros(3, np.float32)
    sample = differences[::4]
    middle = np.percentile(sample, 50, axis=0, method="lower")  # one of the sample, so that something is near it
    near = abs(sample - middle) <= 16
    return (sample * near).sum(0, dtype=np.float32) / near.sum(0)
