"""Expression transfer of an evaluation: correlation and slope per clip, intervals over persons, and the ceiling."""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..media.image import to_tensor, to_uint8
from ..media.video import Frame, read_video, write_video
from ..metrics import MOVING, bootstrap_interval, expression_transfer
from .pairs import person_of
from .variants import VARIANTS

if TYPE_CHECKING:
    from .run import Result

COMPRESSED = "compressed"
"""Row of results with expression: the driving frame after video compression, the ceiling of what detectors find."""
_TARGET = 2  # row of the driving frame itself
_Clip = tuple[str, int | str, str]


class TransferScore(NamedTuple):
    """Expression transfer of one row: correlation and slope between its images and the driving frames.

    Attributes:
        feature: one of `EXPRESSION`.
        prediction: row of the results, or the difference "model - …", clip by clip.
        correlation: mean over those clips in which the feature moves.
        correlation_low: lower end of its 95 % bootstrap interval over persons.
        correlation_high: upper end.
        slope: mean, likewise.
        slope_low: lower end of its interval.
        slope_high: upper end.
        clips: number of clips in the means.
        persons: number of their persons.
    """

    feature: str
    prediction: str
    correlation: float
    correlation_low: float
    correlation_high: float
    slope: float
    slope_low: float
    slope_high: float
    clips: int
    persons: int


def summarize_transfer(
    results: Iterable["Result"],
    metrics: Sequence[str],
    *,
    rows: Sequence[str],
    persons: Mapping[str, str] | None = None,
) -> tuple[TransferScore, ...]:
    """Compute the expression transfer of all rows but that of the driving frame itself.

    Args:
        results: of `evaluate`, in any order; frames of one source under one driving video make a clip.
        metrics: names of the scores.
        rows: names of the rows of each result.
        persons: driving video -> person, over whom intervals are taken; `person_of` the name where it is absent.
    """
    features = [name for name in metrics if name in MOVING]
    clips = _series(results, [metrics.index(feature) for feature in features], len(rows))
    who = [person_of(driving, persons or {}) for _, _, driving in clips]
    scores = []
    for i, feature in enumerate(features if clips else ()):
        values = {row: _transfers(clips, feature, i, k) for k, row in enumerate(rows) if k != _TARGET}
        values |= {f"model - {row}": values["model"] - values[row] for row in rows if row in VARIANTS}
        scores += [_score(feature, row, found, who) for row, found in values.items()]
    return tuple(scores)


def _series(results: Iterable["Result"], columns: Sequence[int], rows: int) -> dict[_Clip, np.ndarray]:
    """Clip -> (frames, features, rows), frames in the order of the results."""
    found: dict[_Clip, array[float]] = {}
    for pair, scores, failure in results:
        if columns and not failure:
            found.setdefault(pair[:3], array("d")).extend(row[column] for column in columns for row in scores)
    return {clip: np.array(values).reshape(-1, len(columns), rows) for clip, values in found.items()}


def _transfers(clips: Mapping[_Clip, np.ndarray], feature: str, column: int, row: int) -> np.ndarray:
    """(clips, 2): correlation and slope, NaN where the feature does not move."""
    series = (torch.from_numpy(values[:, column]).unbind(1) for values in clips.values())
    return np.array([expression_transfer(rows[row], rows[_TARGET], moving=MOVING[feature]) for rows in series])


def _score(feature: str, row: str, values: np.ndarray, persons: Sequence[str]) -> TransferScore:
    known = ~np.isnan(values[:, 0])
    who = [person for person, is_known in zip(persons, known, strict=True) if is_known]
    means = values[known].mean(0) if who else (math.nan, math.nan)
    ends = [bootstrap_interval(values[known, i], groups=who) for i in range(2)]
    return TransferScore(
        feature, row, float(means[0]), *ends[0], float(means[1]), *ends[1], clips=len(who), persons=len(set(who))
    )


def transfer_table(name: str, scores: Sequence[TransferScore]) -> Iterator[str]:
    """Markdown: correlation / slope of each feature, a row for each prediction and difference."""
    features = list(dict.fromkeys(score.feature for score in scores))
    yield "| expression, correlation / slope | " + " | ".join(feature.replace("_", " ") for feature in features) + " |"
    yield "|---" * (1 + len(features)) + "|"
    for row in dict.fromkeys(score.prediction for score in scores):
        cells = [_cell(score) for score in scores if score.prediction == row]
        yield f"| {row.replace('model', name, 1)} | " + " | ".join(cells) + " |"
    counts = {score.feature: score for score in scores if score.prediction == "model"}.values()
    moving = ", ".join(f"{s.feature.replace('_', ' ')} {s.clips} / {s.persons}" for s in counts)
    yield from ("", f"Means over the clips in which the feature moves (clips / persons: {moving}), {_NOTE}")


_NOTE = (
    "with 95 % bootstrap intervals over persons. Between driving frames and results; copying has 0, and `compressed`, "
    "the driving frames after video compression, shows the most that the detector allows."
)


def _cell(score: TransferScore) -> str:
    if math.isnan(score.correlation):
        return "–"
    if score.persons < 2:  # an interval over one person would have no width
        return f"{score.correlation:.2f} / {score.slope:.2f}"
    ends = (score.correlation_low, score.correlation_high, score.slope_low, score.slope_high)
    low, high, slope_low, slope_high = (f"{end:.2f}" for end in ends)
    return f"{score.correlation:.2f} ({low} to {high}) / {score.slope:.2f} ({slope_low} to {slope_high})"


def compress(images: Tensor) -> Tensor:
    """Write images (B, 3, H, W) to a video as `animate` does, and read them again."""
    height, width = images.shape[2:]
    with TemporaryDirectory() as folder:
        path, rate = Path(folder, "video.mp4"), Fraction(25)
        with write_video(path, (height, width), rate) as write:
            for i, image in enumerate(to_uint8(images)):
                write(Frame(image, i / rate))
        frames = [to_tensor(frame.image) for frame in read_video(path)]
    return torch.cat(frames)[..., :height, :width].to(images)
