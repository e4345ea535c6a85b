"""Aggregation of values: a streaming mean that counts missing values, and its bootstrap interval."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Average:
    """Streaming mean in double precision, independent of the batch size.

    NaN stands for a sample without a detection: it is left out and counted. Infinity is kept, so that the PSNR of a
    perfect copy stays infinite. The three fields are the whole state: `Average(*saved)` continues a stored mean.

    Args:
        total: sum of the values.
        count: number of the values.
        skipped: number of NaN values, which are in neither of the two.
    """

    total: float = 0.0
    count: int = 0
    skipped: int = 0

    def update(self, values: Tensor | Sequence[float]) -> None:
        """Add values.

        Args:
            values: any shape, one value per sample.
        """
        values = values.detach().cpu() if isinstance(values, Tensor) else values
        values = torch.as_tensor(values, dtype=torch.float64)
        kept = values[~values.isnan()]
        self.total += kept.sum().item()
        self.count += kept.numel()
        self.skipped += values.numel() - kept.numel()

    def merge(self, other: "Average") -> None:
        """Add the values of another average, for example of another process."""
        self.total += other.total
        self.count += other.count
        self.skipped += other.skipped

    def compute(self) -> float:
        """Compute the mean; NaN if there is no value."""
        return self.total / self.count if self.count else math.nan


def bootstrap_interval(
    values: Tensor | Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over videos, resampled with replacement.

    The unit of resampling is the video: frames of one video are correlated, and resampling frames gives intervals that
    are far too narrow. The ends are resampled means, never interpolated, so that infinite values give infinite ends
    instead of NaN.

    Args:
        values: (N,), one value per video; NaN is left out.
        groups: person in each video. Persons are then resampled with all of their videos, of which two are more alike
            than those of two persons; by default each video is a group of its own.
        level: fraction of the resampled means between the ends, in (0, 1).
        draws: number of resamplings, at least 1.
        seed: of the resampling; the same values and seed give the same interval.

    Returns:
        Lower and upper end, in the unit of the values; NaN both if there is no value.

    Raises:
        ValueError: if `level` is not in (0, 1), `draws` not positive, or there are more or fewer groups than values.

    Reference:
        Efron and Tibshirani 1993, chapter 13.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"expected a level in (0, 1) and at least one draw, got {level} and {draws}")
    numbers = np.asarray(values, dtype=np.float64).ravel().tolist()
    names = range(len(numbers)) if groups is None else groups
    if len(names) != len(numbers):
        raise ValueError(f"groups: expected one for each of {len(numbers)} values, got {len(names)}")
    members: dict[Hashable, list[float]] = {}
    for name, value in zip(names, numbers, strict=True):
        if not math.isnan(value):
            members.setdefault(name, []).append(value)
    if not members:
        return math.nan, math.nan
    sums = np.array([sum(member) for member in members.values()])
    counts = np.array([len(member) for member in members.values()])
    random = np.random.default_rng(seed)
    drawn = (random.integers(len(sums), size=len(sums)) for _ in range(draws))
    means = np.sort([sums[chosen].sum() / counts[chosen].sum() for chosen in drawn])
    tail = int(draws * (1 - level) / 2)
    return float(means[tail]), float(means[draws - 1 - tail])
