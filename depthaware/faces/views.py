"""Views of images at the resolution of a network, and the faces that it finds there."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import torch

from ..media.image import Image
from ..pretrained.tensors import fill, read_tensors
from .blazeface import FullRange, ShortRange, anchor_centers
from .face import Face
from .merging import Floats, merge

Network = Literal["short_range", "full_range"]

_WEIGHTS = Path(__file__).parents[1] / "assets" / "face_detector"
DARKEST = 32  # brightest value up to which a dark view is brightened in full


class View(NamedTuple):
    """A part of an image as a network sees it, black outside the image.

    Attributes:
        left: edge of the view, in pixels from the image's left edge.
        top: likewise.
        step: image pixels per network pixel.
        size: (h, w) in network pixels.
    """

    left: float
    top: float
    step: float
    size: tuple[int, int]

    def read(self, image: Image) -> Image:
        """Resize the part of the image (H, W, 3) with antialiasing, to (h, w, 3)."""
        x, left, right = _visible(self.left, self.step, image.shape[1], self.size[1])
        y, top, bottom = _visible(self.top, self.step, image.shape[0], self.size[0])
        canvas = np.zeros((*self.size, 3), np.uint8)
        if x.start < x.stop and y.start < y.stop:
            part = PIL.Image.fromarray(image).resize(
                (x.stop - x.start, y.stop - y.start),
                PIL.Image.Resampling.BILINEAR,
                (left, top, right, bottom),
                reducing_gap=2.0,
            )
            canvas[y, x] = np.asarray(part)
        return canvas


def _visible(start: float, step: float, edge: int, length: int) -> tuple[slice, float, float]:
    """Network pixels that lie inside the image along one axis, and the image pixels from which to which they reach."""
    first, last = max(0, math.ceil(-start / step)), min(length, int((edge - start) / step + 1e-6))
    return slice(first, last), start + first * step, min(start + last * step, edge)


def whole(image: Image, side: int) -> View:
    """View of a whole image whose longer side becomes `side` network pixels; in the middle of 128 if that is more."""
    height, width = image.shape[:2]
    step = max(height, width) / side
    if side < ShortRange.side:
        half = ShortRange.side / 2 * step
        return View(width / 2 - half, height / 2 - half, step, (ShortRange.side, ShortRange.side))
    h, w = (16 * math.ceil(edge / step / 16 - 1e-6) for edge in (height, width))
    return View(0, 0, step, (h, w))


def around(face: Face, zoom: float, side: int) -> View:
    """Square view around a face, `zoom` times as large as its box."""
    (left, top), (right, bottom) = face.box[:2].tolist(), face.box[2:].tolist()
    width = zoom * max(right - left, bottom - top)
    return View((left + right - width + 1) / 2, (top + bottom - width + 1) / 2, width / side, (side, side))


@cache
def load_network(name: Network) -> ShortRange | FullRange:
    """Load a bundled network on the CPU; every call returns the same one."""
    network = (ShortRange if name == "short_range" else FullRange)().eval().requires_grad_(False)
    path = _WEIGHTS / f"{name}.safetensors"
    fill(network, read_tensors(path), str(path))
    return network.to(memory_format=torch.channels_last)


def look(
    images: Sequence[Image], views: Sequence[View], min_score: float, network: Network = "short_range"
) -> list[list[Face]]:
    """Find the faces in one view of each image; in pixels of the image, the highest score first."""
    results: list[list[Face]] = [[] for _ in images]
    for size in dict.fromkeys(view.size for view in views):
        batch = [i for i, view in enumerate(views) if view.size == size]
        logits, offsets = _run(network, np.stack([views[i].read(images[i]) for i in batch]))
        centers = _centers(network, size)
        for i, score, offset in zip(batch, 1 / (1 + np.exp(-logits.clip(-80, 80))), offsets, strict=True):
            kept = score >= min_score
            boxes, points = decode(offset[kept], centers[kept])
            origin = np.array([views[i].left, views[i].top], np.float32) - 0.5  # from edges to centers of pixels
            boxes = boxes * np.float32(views[i].step) + np.tile(origin, 2)
            points = points * np.float32(views[i].step) + origin
            results[i] = merge([Face(*face) for face in zip(boxes, points, score[kept].tolist(), strict=True)])
    return results


@torch.inference_mode()
def _run(network: Network, pixels: Image) -> tuple[Floats, Floats]:
    peak = torch.from_numpy(pixels.reshape(len(pixels), -1).max(1).clip(DARKEST).astype(np.float32))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / (peak[:, None, None, None] / 2) - 1
    logits, offsets = load_network(network)(images)
    return logits.numpy(), offsets.numpy()


@cache
def _centers(network: Network, size: tuple[int, int]) -> Floats:
    return anchor_centers(load_network(network).anchors, *size).numpy()


def decode(offsets: Floats, centers: Floats) -> tuple[Floats, Floats]:
    """Offsets (N, 16) from anchors (N, 2) -> boxes (N, 4) left, top, right, bottom, and points (N, 6, 2)."""
    middle, half = offsets[:, :2] + centers, offsets[:, 2:4] / 2
    points = offsets[:, 4:].reshape(-1, 6, 2) + centers[:, None]
    return np.concatenate([middle - half, middle + half], axis=1), points
