"""Contact sheet of the best, median and worst pairs."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..media.image import Image, to_uint8, write_image
from ..media.panels import text_line
from .metric_specs import METRICS, MetricSpec
from .results_log import Row
from .run import Prediction

_SIDE, _EDGE, _ROWS = 160, 6, 3  # side of an image, margin to its right, both in pixels, pairs per label
_COLUMNS = ("source", "driving", "prediction", "difference x 2")


class RankedPair(NamedTuple):
    """Example pair by rank: its label "best", "median" or "worst", its number and its score."""

    label: str
    number: int
    value: float


def rank_pairs(rows: Collection[Row], metrics: Sequence[str]) -> tuple[MetricSpec | None, list[RankedPair]]:
    """Find the best, median and worst pairs by the first metric with values, each three of different videos."""
    scored = (row.result.scores[0] for row in rows if row.result.scores)
    present = {name for scores in scored for name, x in zip(metrics, scores, strict=True) if np.isfinite(x)}
    order = [name for name in ("l1", "ssim", "psnr", "csim", *metrics) if name in present]
    if not order:
        return None, []
    spec, column = METRICS[order[0]], metrics.index(order[0])
    entries = [(r.scores[0][column], number, r.pair.driving_video) for number, r in rows if r.scores]
    entries = [entry for entry in entries if np.isfinite(entry[0])]
    best_first = sorted(entries, key=lambda entry: (-entry[0] if spec.higher else entry[0], entry[1]))
    middle = len(best_first) // 2
    outwards = sorted(range(len(best_first)), key=lambda i: abs(i - middle))
    orders = {"best": best_first, "median": [best_first[i] for i in outwards], "worst": best_first[::-1]}
    return spec, [RankedPair(label, i, value) for label, walk in orders.items() for value, i in _distinct(walk)]


def _distinct(walk: Iterable[tuple[float, int, str]]) -> list[tuple[float, int]]:
    """The first entries of different videos."""
    found: dict[str, tuple[float, int]] = {}
    for value, index, video in walk:
        found.setdefault(video, (value, index))
        if len(found) == _ROWS:
            break
    return list(found.values())


def write_sheet(path: Path, rows: Iterable[tuple[str, bool, Prediction]]) -> None:
    """Write source, driving frame, prediction and twice their difference, one titled row per pair.

    Args:
        path: of the PNG.
        rows: title, whether the driving frame is the ground truth (else there is no difference, and where no row has
            one, no column for it), and the images.
    """
    rows = list(rows)
    columns = _COLUMNS if any(truth for _, truth, _ in rows) else _COLUMNS[:-1]
    width = len(columns) * (_SIDE + _EDGE)
    sheet = [text_line(width, [(i * (_SIDE + _EDGE), text) for i, text in enumerate(columns)])]
    for title, truth, (source, driving, prediction) in rows:
        difference = (prediction - driving).abs().mul(2).clamp(0, 1)
        images = [source, driving, prediction, difference if truth else difference * 0 + 1][: len(columns)]
        sheet += [text_line(width, [(0, title)]), np.hstack([_thumbnail(image) for image in images])]
    write_image(path, np.vstack(sheet))


def _thumbnail(image: Tensor) -> Image:
    small = F.interpolate(image, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    return np.pad(to_uint8(small)[0], ((0, 0), (0, _EDGE), (0, 0)), constant_values=255)
