"""The contact sheet: what the best, the median and the worst pairs look like."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..media.image import Image, to_uint8, write_image
from .metric_specs import METRICS, MetricSpec
from .results_log import Row
from .run import Prediction

_SIDE, _EDGE, _ROWS = 160, 6, 3
# 3 x 5 dots for each letter, a digit for each row from the top: 4 is its left dot, 1 its right one.
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_:+ "
_DOTS = (
    "755572622771747717175571174717747577111175757757177575565656744476555674647746447455755755722271115755655"
    "444475775565555755577574475573756557471772222555575555255775552555522271247000020070000007020200272000000"
)
_GLYPHS = {letter: _DOTS[5 * i : 5 * i + 5] for i, letter in enumerate(_LETTERS)}


class RankedPair(NamedTuple):
    """A pair that is worth a look: "best", "median" or "worst", and its score."""

    label: str
    number: int
    value: float


def find_extremes(rows: Collection[Row], metrics: Sequence[str]) -> tuple[MetricSpec | None, list[RankedPair]]:
    """The best, median and worst pairs by the first metric that the model has values of, each three of other videos."""
    scored = (row.result.scores[0] for row in rows if row.result.scores)
    present = {name for scores in scored for name, x in zip(metrics, scores, strict=True) if np.isfinite(x)}
    order = [name for name in ("l1", "ssim", "psnr", "csim", *metrics) if name in present]
    if not order:
        return None, []
    measure, column = METRICS[order[0]], metrics.index(order[0])
    ranked = [(r.scores[0][column], number, r.pair.driving_video) for number, r in rows if r.scores]
    ranked = [entry for entry in ranked if np.isfinite(entry[0])]
    best_first = sorted(ranked, key=lambda entry: (-entry[0] if measure.higher else entry[0], entry[1]))
    middle = len(best_first) // 2
    outwards = sorted(range(len(best_first)), key=lambda i: abs(i - middle))
    walks = {"best": best_first, "median": [best_first[i] for i in outwards], "worst": best_first[::-1]}
    return measure, [RankedPair(label, i, value) for label, walk in walks.items() for value, i in _distinct(walk)]


def _distinct(walk: Iterable[tuple[float, int, str]]) -> list[tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    for value, index, video in walk:
        found.setdefault(video, (value, index))
        if len(found) == _ROWS:
            break
    return list(found.values())


def write_sheet(path: Path, rows: Iterable[tuple[str, bool, Prediction]]) -> None:
    """Write source, driver, result and their difference below each other, every row under its title.

    Args:
        path: of the PNG.
        rows: title, whether the driver shows what the result should be, and the images.
    """
    sheet = [_write(f"{'source':21}{'driver':21}{'result':21}difference x 2")]
    for title, truth, drawn in rows:
        images = [drawn.source, drawn.driving, drawn.prediction]
        difference = (drawn.prediction - drawn.driving).abs().mul(2).clamp(0, 1)
        images.append(difference if truth else difference * 0 + 1)
        sheet += [_write(title), np.hstack([_small(image) for image in images])]
    write_image(path, np.vstack(sheet))


def _small(image: Tensor) -> Image:
    small = F.interpolate(image, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    return np.pad(to_uint8(small)[0], ((0, 0), (0, _EDGE), (0, 0)), constant_values=255)


def _write(text: str) -> Image:
    """A line of black text on white, as wide as the sheet."""
    width = 4 * (_SIDE + _EDGE)
    line = np.full((18, width, 3), 255, np.uint8)
    for i, letter in enumerate(text.upper()[: width // 8 - 1]):
        rows = np.array([int(row) for row in _GLYPHS.get(letter, "00000")])
        dots = (rows[:, None] >> np.array([2, 1, 0]) & 1).repeat(2, 0).repeat(2, 1)
        line[4:14, 4 + 8 * i : 10 + 8 * i][dots == 1] = 0
    return line
