"""From values to one number: a streaming mean that counts what it leaves out, and an interval around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Average:
    """Mean of all values seen, in double precision; batches of any size give the mean of the whole.

    NaN means that nothing was detected in a sample: it is left out and counted. Infinity is kept, so that the PSNR of a
    perfect copy stays infinite. The three fields are all there is; `Average(*saved)` goes on where it stopped.

    Args:
        total: sum of the values seen.
        count: how many these were.
        skipped: how many were NaN.
    """

    total: float = 0.0
    count: int = 0
    skipped: int = 0

    def update(self, values: Tensor | Sequence[float]) -> None:
        """Take in more values.

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
        """Take in what another one has seen, as of another process."""
        self.total += other.total
        self.count += other.count
        self.skipped += other.skipped

    def compute(self) -> float:
        """The mean; NaN if there was no value."""
        return self.total / self.count if self.count else math.nan


def bootstrap_interval(
    values: Tensor | Sequence[float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: redraw the videos with replacement, and see where the means lie.

    The unit is the video. Frames of one video are alike, and redrawing frames gives intervals that are far too narrow.
    The ends are means that were drawn, never interpolated, so infinite values give infinite ends instead of NaN.

    Args:
        values: (N,), one value per video; NaN is left out.
        level: share of the redrawn means between the ends, in (0, 1).
        draws: how often to redraw.
        seed: of the draws; the same values give the same interval.

    Returns:
        Lower and upper end, in the unit of the values; NaN both if there is no value.

    Raises:
        ValueError: if `level` is not in (0, 1) or `draws` not positive.

    Reference:
        Efron and Tibshirani 1993, chapter 13.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"expected a level in (0, 1) and at least one draw, got {level} and {draws}")
    kept = np.asarray(values, dtype=np.float64).ravel()
    kept = kept[~np.isnan(kept)]
    if not kept.size:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    means = np.sort([kept[random.integers(kept.size, size=kept.size)].mean() for _ in range(draws)])
    tail = int(draws * (1 - level) / 2)
    return float(means[tail]), float(means[draws - 1 - tail])
