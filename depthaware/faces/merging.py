"""Boxes: area, overlap, and one detection from many of the same face."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .face import Face

Floats = npt.NDArray[np.float32]
SAME = 0.3  # intersection over union above which two boxes show the same face, as in MediaPipe


def merge(faces: Sequence[Face]) -> list[Face]:
    """Suppress non-maxima by averaging: boxes and points of one face weighted by their scores, the highest score kept.

    Reference: Bazarevsky et al. 2019, section 3.4.
    """
    return list(_merge(sorted(faces, key=lambda face: -face.score)))


def _merge(faces: list[Face]) -> Iterator[Face]:
    while faces:
        same = overlap(faces[0].box, np.stack([face.box for face in faces])) > SAME
        same[0] = True  # also a box without an area
        group = [face for face, chosen in zip(faces, same, strict=True) if chosen]
        weights = np.array([face.score for face in group], np.float32)
        box, points = (
            np.average(np.stack(values), 0, weights).astype(np.float32)
            for values in ([face.box for face in group], [face.points for face in group])
        )
        yield Face(box, points, group[0].score)
        faces = [face for face, chosen in zip(faces, same, strict=True) if not chosen]


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of a box (4,) with each of (N, 4)."""
    shared = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0).prod(1)
    return shared / np.maximum(area(box) + area(boxes) - shared, 1e-6)


def area(boxes: Floats) -> Floats:
    """Areas of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
