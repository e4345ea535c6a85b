"""Sharpness and open eyes of a face, from which the reference frame of a driving video is chosen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..media.image import Image
from .crop import Crop
from .face import Face, roll

Floats = npt.NDArray[np.float32]

SIDE = 96  # pixels of a patch, in which the eyes are 32 apart, at (32, 32) and (64, 32)
WANTED = np.array((0.9, 0.95, 0.8), np.float32)  # of the scene's median sharpness, openness and brightness


def face_patch(image: Image, face: Face) -> Floats:
    """Read the face upright, with the eyes always in the same place.

    Args:
        image: uint8 (H, W, 3).
        face: found in it.

    Returns:
        (96, 96), gray from 0 to 255, the right eye at (32, 32), the left at (64, 32).
    """
    right, left = face.points[:2].astype(float)
    distance, angle = max(math.dist(left, right), 4.0), roll(face)
    x, y = (left + right) / 2 + distance / 2 * np.array([-math.sin(angle), math.cos(angle)])
    square = Crop((x, y), 3 * distance, angle).read(image, SIDE)
    return np.dot(square.astype(np.float32), np.array([0.299, 0.587, 0.114], np.float32))


def measure(patch: Floats) -> Floats:
    """Sharpness, openness of the eyes and mean brightness of a patch, (3,), all growing with quality."""
    return np.array((sharpness(patch), eye_openness(patch), patch.mean()), np.float32)


def grade(measured: Floats) -> Floats:
    """Grade faces among those of one scene: 1 and more is good.

    Args:
        measured: (T, 3), see `measure`.

    Returns:
        (T,), the smallest ratio of the three to what is wanted of them: 0.9, 0.95 and 0.8 of their medians.
    """
    return ((measured + 1e-9) / (np.median(measured, axis=0) * WANTED + 1e-9)).min(axis=1)


def sharpness(patch: Floats) -> float:
    """Mean absolute Laplacian of a patch over its mean brightness: no unit, falls when the face is blurred."""
    around = patch[:-2, 1:-1] + patch[2:, 1:-1] + patch[1:-1, :-2] + patch[1:-1, 2:]
    return float(np.abs(around - 4 * patch[1:-1, 1:-1]).mean() / (patch.mean() + 1))


def eye_openness(patch: Floats) -> float:
    """Contrast of iris and white over the darkest part of the eyes: no unit, falls when they close.

    An open eye is dark in the middle and has upright edges on both sides of the iris; a closed one is a soft line. The
    value is the steepest horizontal slope in each column of pixels, averaged over both eyes, divided by their darkest
    gray. It depends on person and light: compare frames of one scene.
    """
    soft = _soften(patch)
    slopes = [np.abs(np.diff(soft[22:40, x - 9 : x + 9], axis=1)).max(axis=0).mean() for x in (32, 64)]
    darkest = [soft[25:37, x - 5 : x + 5].min() for x in (32, 64)]
    return float(np.mean(slopes) / (np.mean(darkest) + 3))


def _soften(image: Floats) -> Floats:
    """Average over 2 x 2 pixels, against noise."""
    rows = image[1:] + image[:-1]
    return np.asarray((rows[:, 1:] + rows[:, :-1]) / 4, np.float32)
