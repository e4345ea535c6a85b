"""Crops of a driving video: one around the travel of a head, or one that moves with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .crop import Crop, face_crop
from .face import Face, roll
from .smoothing import OneEuro

HEAD = 1.4  # side of a square around the whole head, over that of the face's box
TILTED = math.radians(20)  # from which median tilt on the crop is tilted, too: a camera held askew
SMOOTH = 0.4  # seconds: standard deviation of the smoothing of a crop that moves

Floats = npt.NDArray[np.float64]


def scene_crop(faces: Sequence[Face | None]) -> Crop | None:
    """Place one square for all frames of a scene, as `face_crop` around the median face, but around the whole travel.

    It is moved and enlarged as far as needed to cover the head in 99 % of the frames, in all of fewer than 200.

    Args:
        faces: one per frame, None where there is none.

    Returns:
        None without any face.
    """
    seen = [face for face in faces if face is not None]
    if not seen:
        return None
    angle = _tilt(seen)
    squares, heads = _squares(seen, angle, None), _squares(seen, angle, HEAD)
    low = np.quantile(heads[:, :2] - heads[:, 2:] / 2, 0.005, axis=0, method="lower")
    high = np.quantile(heads[:, :2] + heads[:, 2:] / 2, 0.995, axis=0, method="higher")
    return _crop(_covering(np.median(squares, axis=0), low, high), angle)


def moving_crops(faces: Sequence[Face | None], rate: float) -> list[Crop | None]:
    """Place a square in each frame of a scene that moves smoothly with the face, and over gaps without one.

    Args:
        faces: one per frame, None where there is none.
        rate: frames per second.
    """
    seen = [index for index, face in enumerate(faces) if face is not None]
    if not seen:
        return [None] * len(faces)
    found = [face for face in faces if face is not None]
    angle, every = _tilt(found), np.arange(len(faces))
    squares, heads = (_squares(found, angle, factor) for factor in (None, HEAD))
    squares, heads = (np.stack([np.interp(every, seen, column) for column in x.T], axis=1) for x in (squares, heads))
    smooth = zip(_smoothed(squares, SMOOTH * rate), heads, strict=True)
    return [_crop(_around(square, head), angle) for square, head in smooth]


class LiveCrop:
    """Square of a live view: that of the first face, moved as little as keeps the head inside, or moving with the face.

    Args:
        follow: move with the face, through a One-Euro filter.
    """

    def __init__(self, follow: bool) -> None:
        self._filter = OneEuro(0.5, 0.01) if follow else None
        self._square: Floats | None = None  # center and side, on axes tilted by the angle
        self._angle = 0.0

    def __call__(self, face: Face | None, time: float) -> Crop | None:
        """Place the square in the next frame, with its face if there is one, at its time in seconds."""
        if face is not None:
            self._angle = _tilt([face]) if self._square is None else self._angle
            (square,), (head,) = (_squares([face], self._angle, factor) for factor in (None, HEAD))
            square = self._filter(square, time) if self._filter else square if self._square is None else self._square
            self._square = _around(square, head)
        return None if self._square is None else _crop(self._square, self._angle)


def _tilt(faces: Sequence[Face]) -> float:
    """Median tilt of heads that are tilted throughout, else 0: heads tilt as they speak, which the model animates."""
    angles = np.array([roll(face) for face in faces])
    mean = math.atan2(np.sin(angles).mean(), np.cos(angles).mean())
    median = mean + float(np.median((angles - mean + math.pi) % (2 * math.pi) - math.pi))
    return median if abs(median) > TILTED else 0.0


def _squares(faces: Sequence[Face], angle: float, factor: float | None) -> Floats:
    """Center and side (T, 3) of the squares of faces, on axes tilted by an angle."""
    crops = [face_crop(face) if factor is None else face_crop(face, factor=factor) for face in faces]
    centers = np.array([crop.center for crop in crops]) @ _axes(angle).T
    return np.column_stack([centers, [crop.side for crop in crops]])


def _crop(square: Floats, angle: float) -> Crop:
    x, y = (square[:2] @ _axes(angle)).tolist()
    return Crop((x, y), float(square[2]), angle)


def _axes(angle: float) -> Floats:
    """Rows: the directions to the right and down of a square tilted clockwise."""
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def _around(square: Floats, head: Floats) -> Floats:
    return _covering(square, head[:2] - head[2] / 2, head[:2] + head[2] / 2)


def _covering(square: Floats, low: Floats, high: Floats) -> Floats:
    """Enlarge a square, center and side, and move it, by as little as makes it cover the range from `low` to `high`."""
    side = max(square[2], *(high - low))
    return np.array([*np.clip(square[:2], high - side / 2, low + side / 2), side])


def _smoothed(values: Floats, deviation: float) -> Floats:
    """Average (T, 3) over time with Gaussian weights, in frames; at the ends over what there is."""
    reach = np.arange(-math.ceil(3 * deviation), math.ceil(3 * deviation) + 1)
    weights = np.exp(-0.5 * (reach / max(deviation, 1e-6)) ** 2)

    def filtered(column: Floats) -> Floats:
        middle = len(reach) // 2
        return np.convolve(column, weights)[middle : middle + len(column)]

    return np.stack([filtered(column) for column in values.T], axis=1) / filtered(np.ones(len(values)))[:, None]
