"""Scores per clip, and a reader for evaluations of many models on the same frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..data.clip_reader import ClipReader
from .run import Result


class ClipScores(NamedTuple):
    """Scores of clips.

    Attributes:
        model: metric -> a value for each clip, the mean over its frames that have one; NaN without any.
        copy: the same of the copied source.
        found: share of the frames with a value of the model in every metric.
    """

    model: dict[str, list[float]]
    copy: dict[str, list[float]]
    found: float


def clip_scores(results: Sequence[Result], clips: Sequence[str], metrics: Sequence[str]) -> ClipScores:
    """Average the scores over the frames of each clip.

    Args:
        results: of `evaluate`, none of them failed.
        clips: names of the driving videos, each with a result.
        metrics: names of the scores.
    """
    scores = np.array([result.scores for result in results])[:, :2]  # pairs, model and copy, metrics
    who = np.array([clips.index(result.pair.driving_video) for result in results])
    known = np.isfinite(scores)
    sums, counts = (
        np.stack([x[who == i].sum(0) for i in range(len(clips))]) for x in (np.where(known, scores, 0), known)
    )
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).round(6)
    model, copy = ({name: means[:, row, k].tolist() for k, name in enumerate(metrics)} for row in (0, 1))
    return ClipScores(model, copy, round(float(known[:, 0].all(-1).mean()), 4))


class CachedReader(ClipReader):
    """A reader that keeps all frames in memory."""

    def __init__(self, folder: str | Path, size: int) -> None:
        super().__init__(folder, size)
        self.kept: dict[tuple[str, int | str], Tensor] = {}

    def frame(self, name: str, index: int | str) -> Tensor:
        """Read a frame, once."""
        key = (name, index)
        if key not in self.kept:
            self.kept[key] = super().frame(name, index)
        return self.kept[key]
