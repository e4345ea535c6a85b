"""Random color changes, as one affine map for all frames of a sample."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..geometry import coordinate_grid
from ..warp import sample

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601


class ColorMap(NamedTuple):
    """Affine map of colors: color -> matrix @ color + offset.

    Attributes:
        matrix: (3, 3).
        offset: (3,), for colors in [0, 1].
    """

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Map uint8 (n, H, W, 3) to float32 (n, 3, H, W), clamped to [0, 1]."""
        planes = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32)
        matrix, offset = (self.matrix / 255).astype(np.float32), self.offset.astype(np.float32)
        result = np.empty_like(planes)
        for out, row, shift in zip(result.swapaxes(0, 1), matrix, offset, strict=True):
            # Not a matrix product, whose last bits may differ with the number of threads.
            np.multiply(planes[:, 0], row[0], out=out)
            out += planes[:, 1] * row[1]
            out += planes[:, 2] * row[2]
            out += shift
        return np.clip(result, 0, 1, out=result)


def color_map(brightness: float, contrast: float, saturation: float, hue: float, mean: np.ndarray) -> ColorMap:
    """Compose changes of brightness, contrast, saturation and hue, in this order, without clamping in between.

    Args:
        brightness: factor on the colors.
        contrast: factor on the difference from the mean gray.
        saturation: factor on the difference from the pixel's own luma.
        hue: rotation of the colors around the gray axis, in turns. torchvision rotates the H of HSV instead; this is
            the linear rotation nearest to it, and keeps a color's distance from gray.
        mean: (3,), mean color of the sample, in [0, 1].
    """
    gray = np.outer(np.ones(3), LUMA)
    scale, shift = brightness * contrast, (1 - contrast) * brightness * (LUMA @ mean)
    matrix = _rotation(hue) @ (saturation * np.eye(3) + (1 - saturation) * gray)
    return ColorMap(matrix * scale, np.full(3, shift))  # the matrix keeps gray, and so the shift


def _rotation(turns: float) -> np.ndarray:
    """Rodrigues' formula around (1, 1, 1) / sqrt(3)."""
    cosine, sine = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return cosine * np.eye(3) + sine * cross + (1 - cosine) / 3


def random_color_map(rng: np.random.Generator, frames: np.ndarray, strength: float = 0.1) -> ColorMap:
    """Draw brightness, contrast and saturation factors in 1 ± `strength`, and a hue rotation of ± `strength` turns.

    Args:
        rng: source of the four random numbers.
        frames: uint8 (n, H, W, 3), the frames of one sample, which are changed alike.
        strength: 0.1 in FOMM and in the released code; the paper states no augmentation.
    """
    mean = frames[:, ::4, ::4].mean(axis=(0, 1, 2)) / 255  # a sixteenth of the pixels is enough
    brightness, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    return color_map(brightness, contrast, saturation, rng.uniform(-strength, strength), mean)


def random_placement(rng: np.random.Generator) -> Tensor:
    """Draw a turn within 0.1 radians, a scale within 0.82 and 1.05 and a shift within 0.09, as (2, 3) for `move`."""
    angle, scale = rng.uniform(-0.1, 0.1), rng.uniform(0.82, 1.05)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return torch.tensor(np.c_[scale * np.array(turn), rng.uniform(-0.09, 0.09, 2)], dtype=torch.float32)


def move(images: Tensor, points: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Turn, scale and shift images together with points in them.

    Args:
        images: (B, C, H, W); what comes from outside is reflected.
        points: (B, N, 2) in [-1, 1].
        affine: (2, 3), [A | t]: pixel z of the result is the original at A z + t.

    Returns:
        Both in the new place: a point z has gone to the inverse of A applied to z - t.
    """
    linear, shift = affine[:, :2], affine[:, 2]
    positions = coordinate_grid(*images.shape[-2:]) @ linear.T + shift
    moved = sample(images, positions.expand(len(images), -1, -1, -1), padding_mode="reflection")
    return moved, (points - shift) @ torch.linalg.inv(linear).T
