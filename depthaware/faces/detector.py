"""Detection of faces of any size in images of any size."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from safetensors.torch import load_file

from ..media.image import Image
from .blazeface import FullRange, ShortRange, anchor_centers
from .face import Face

Floats = npt.NDArray[np.float32]

_WEIGHTS = Path(__file__).parents[1] / "assets" / "face_detector"
_NETWORKS = {"short_range": ShortRange, "full_range": FullRange}
_SIDES = (128, 64, 384, 1152, 2304)  # longer side of the image at each level of the search, in network pixels
_SMALL = 32  # network pixels: a face smaller than this is looked at again, enlarged
_PROPOSAL = 0.4  # score from which on it is


@cache
def load_network(name: str) -> ShortRange | FullRange:
    """Load a bundled network, "short_range" or "full_range", on the CPU; every call returns the same one."""
    network = _NETWORKS[name]().eval().requires_grad_(False)
    weights = load_file(_WEIGHTS / f"{name}.safetensors")
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    return network.to(memory_format=torch.channels_last)


class View(NamedTuple):
    """A part of an image as a network sees it, black outside the image.

    Attributes:
        left: edge of the view in the image, in pixels from its left edge.
        top: likewise.
        step: image pixels per network pixel.
        size: (h, w) in network pixels, multiples of 16.
    """

    left: float
    top: float
    step: float
    size: tuple[int, int]

    def read(self, image: Image) -> Image:
        """Resize that part of the image, with antialiasing."""
        spans = []
        for start, edge, length in zip((self.top, self.left), image.shape, self.size, strict=False):
            first, last = max(0, math.ceil(-start / self.step)), min(length, int((edge - start) / self.step + 1e-6))
            spans.append((first, last, start + first * self.step, min(start + last * self.step, edge)))
        (top, bottom, *rows), (left, right, *columns) = spans
        canvas = np.zeros((*self.size, 3), np.uint8)
        if top < bottom and left < right:
            box = (columns[0], rows[0], columns[1], rows[1])
            small = PIL.Image.fromarray(image).resize(
                (right - left, bottom - top), PIL.Image.Resampling.BILINEAR, box, reducing_gap=2.0
            )
            canvas[top:bottom, left:right] = small
        return canvas


class BlazeFaceDetector:
    """Detector of faces of all sizes, with the weights bundled with the package; a `FaceDetector`.

    It looks at the image at growing resolution until it finds a face.
    """

    def __init__(self, *, min_score: float = 0.6, all_sizes: bool = False) -> None:
        self.min_score, self.all_sizes = min_score, all_sizes

    def __call__(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, the largest first."""
        found: list[list[Face]] = [[] for _ in images]
        for side in _SIDES:
            views = {i: level(image, side) for i, image in enumerate(images) if self.all_sizes or not found[i]}
            views = {i: view for i, view in views.items() if view.step >= 1 or side <= _SIDES[0]}
            for i, faces in zip(views, self._search([images[i] for i in views], list(views.values())), strict=True):
                found[i] = merge(found[i] + faces)
        return [sorted(faces, key=lambda face: -area(face.box)) for faces in found]

    def _search(self, images: Sequence[Image], views: Sequence[View]) -> list[list[Face]]:
        """Faces in one view of each image; small ones are found again in a view of their own."""
        results = []
        for image, view, faces in zip(images, views, look(images, views, _PROPOSAL), strict=True):
            kept = [face for face in faces if not is_small(face, view) and face.score >= self.min_score]
            small = [face for face in faces if is_small(face, view)]
            closer = look([image] * len(small), [close_up(face) for face in small], self.min_score)
            for before, after in zip(small, closer, strict=True):
                kept += [face for face in after if overlap(before.box, face.box[None])[0] > 0.3][:1]
            results.append(merge(kept))
        return results


def level(image: Image, side: int) -> View:
    """View of a whole image whose longer side becomes `side` network pixels, inside a square of at least 128."""
    height, width = image.shape[:2]
    step = max(height, width) / side
    h, w = (16 * math.ceil(edge / step / 16 - 1e-6) for edge in (height, width))
    if side < 128:
        return View(width / 2 - 64 * step, height / 2 - 64 * step, step, (128, 128))
    return View(0, 0, step, (h, w))


def close_up(face: Face) -> View:
    """Square view of a face that fills 0.4 of its side."""
    (left, top), (right, bottom) = face.box[:2], face.box[2:]
    side = 2.5 * max(right - left, bottom - top)
    return View((left + right - side) / 2 + 0.5, (top + bottom - side) / 2 + 0.5, side / 128, (128, 128))


def is_small(face: Face, view: View) -> bool:
    return float(face.box[2] - face.box[0]) < _SMALL * view.step


def look(images: Sequence[Image], views: Sequence[View], min_score: float) -> list[list[Face]]:
    """Run the network on one view of each image; faces in pixels of the image, the highest score first."""
    network = load_network("short_range")
    results: list[list[Face]] = [[] for _ in images]
    for size in dict.fromkeys(view.size for view in views):
        batch = [i for i, view in enumerate(views) if view.size == size]
        pixels = torch.from_numpy(np.stack([views[i].read(images[i]) for i in batch]))
        with torch.inference_mode():
            logits, offsets = network(pixels.permute(0, 3, 1, 2) / 127.5 - 1)  # channels last in memory
        centers = anchor_centers(network.anchors, *size).numpy()
        for i, score, offset in zip(batch, logits.sigmoid().numpy(), offsets.numpy(), strict=True):
            kept = score >= min_score
            boxes, points = decode(offset[kept], centers[kept])
            origin = np.array([views[i].left, views[i].top], np.float32) - 0.5  # from edges to centers of pixels
            boxes = boxes * views[i].step + np.tile(origin, 2)
            points = points * views[i].step + origin
            results[i] = merge([Face(*face) for face in zip(boxes, points, score[kept].tolist(), strict=True)])
    return results


def decode(offsets: Floats, centers: Floats) -> tuple[Floats, Floats]:
    """Offsets (N, 16) from anchors (N, 2) -> boxes (N, 4) left, top, right, bottom, and points (N, 6, 2)."""
    middle, half = offsets[:, :2] + centers, offsets[:, 2:4] / 2
    points = offsets[:, 4:].reshape(-1, 6, 2) + centers[:, None]
    return np.concatenate([middle - half, middle + half], axis=1), points


def merge(faces: Sequence[Face]) -> list[Face]:
    """Average the detections of one face, weighted by their scores; the highest score first."""
    return list(_merge(sorted(faces, key=lambda face: -face.score)))


def _merge(faces: list[Face]) -> Iterator[Face]:
    while faces:
        same = overlap(faces[0].box, np.stack([face.box for face in faces])) > 0.3
        same[0] = True
        group = [face for face, chosen in zip(faces, same, strict=True) if chosen]
        weights = np.array([face.score for face in group], np.float32)
        box, points = (
            np.average(np.stack(x), 0, weights).astype(np.float32) for x in list(zip(*group, strict=True))[:2]
        )
        yield Face(box, points, group[0].score)
        faces = [face for face, chosen in zip(faces, same, strict=True) if not chosen]


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of a box (4,) with each of (N, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    return shared / (area(box) + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared)


def area(box: Floats) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
