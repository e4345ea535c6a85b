"""Summary of results: means over pairs and videos, intervals over persons; written as JSON."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..media.atomic import whole_file
from ..metrics import bootstrap_interval
from .expression import TransferScore
from .metric_specs import METRICS
from .pairs import Failure, person_of
from .run import PREDICTIONS, Result
from .strangers import Strangers
from .variants import VARIANTS

DIFFERENCE = "model - copy"
"""Name of the difference between the scores of the model and of the copied source, pair by pair."""


class Score(NamedTuple):
    """Summary of one metric for one prediction.

    Attributes:
        metric: its name.
        prediction: one of `Evaluator.rows`, or `DIFFERENCE`, or "model - " and a row of an ablation.
        mean: mean over pairs.
        mean_of_videos: mean over driving videos of their means, so that each video has the same weight.
        low: lower end of the 95 % bootstrap interval of that mean, over persons; NaN for a single one.
        high: upper end.
        pairs: number of pairs with a value.
        skipped: number of pairs without a value: no face was found, or for jitter no neighbor in the batch; for the
            difference, no value in one of the two.
    """

    metric: str
    prediction: str
    mean: float
    mean_of_videos: float
    low: float
    high: float
    pairs: int
    skipped: int


class Summary(NamedTuple):
    """Summary of an evaluation.

    Attributes:
        scores: for each metric that is defined for some pair, all rows and the differences.
        pairs: number of scored pairs.
        failed: number of failed pairs.
        videos: number of driving videos among the scored pairs.
        failures: reasons, and number of failed pairs for each.
        transfer: of the expression, where its features were measured.
        strangers: CSIM of different persons, where CSIM was measured and two of them have a face.
    """

    scores: tuple[Score, ...]
    pairs: int
    failed: int
    videos: int
    failures: tuple[tuple[str, int], ...]
    transfer: tuple[TransferScore, ...] = ()
    strangers: Strangers | None = None


def differences(rows: Sequence[str]) -> list[str]:
    """Rows that are subtracted from the model's: the copy, and those of ablations."""
    return [row for row in rows if row == "copy" or row in VARIANTS]


def summarize(
    results: Iterable[Result],
    metrics: Sequence[str],
    *,
    rows: Sequence[str] = PREDICTIONS,
    persons: Mapping[str, str] | None = None,
) -> Summary:
    """Summarize the results of `evaluate`; memory grows with the number of videos, not of pairs.

    Args:
        results: in any order.
        metrics: names, in the order of the scores.
        rows: names of the rows of each result.
        persons: driving video -> person, over whom intervals are taken; `person_of` the name where it is absent.
    """
    minus = [list(rows).index(row) for row in differences(rows)]
    sums: dict[str, np.ndarray] = {}  # per video: (sum, number of values, number of NaN) x prediction x metric
    failures: Counter[str] = Counter()
    pairs = 0
    for pair, scores, failure in results:
        if failure:
            failures[failure] += 1
            continue
        with np.errstate(invalid="ignore"):  # inf - inf, for two infinite PSNR
            values = np.vstack((scores, *(np.subtract(scores[0], scores[row]) for row in minus)))
        missing = np.isnan(values)
        applies = [pair.has_truth or not METRICS[name].needs_truth for name in metrics]
        counts = np.stack((np.where(missing, 0, values), ~missing, missing & applies))
        sums[pair.driving_video] = sums.get(pair.driving_video, 0) + counts
        pairs += 1
    videos, labels = sorted(sums), [*rows, *(f"model - {row}" for row in differences(rows))]
    who = [person_of(video, persons or {}) for video in videos]
    scored = tuple(_scores(metrics, labels, np.stack([sums[video] for video in videos]), who)) if sums else ()
    return Summary(scored, pairs, failures.total(), len(sums), tuple(sorted(failures.items())))


def _scores(metrics: Sequence[str], rows: Sequence[str], sums: np.ndarray, persons: Sequence[str]) -> Iterable[Score]:
    total, count, skipped = sums.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means, by_video = total / count, sums[:, 0] / sums[:, 1]
    for m, metric in enumerate(metrics):
        if METRICS[metric].is_value or not (count[:, m].any() or skipped[:, m].any()):
            continue
        for p, prediction in enumerate(rows):
            number = int(count[p, m]), int(skipped[p, m])
            yield Score(metric, prediction, float(means[p, m]), *_interval(by_video[:, p, m], persons), *number)


def _interval(values: np.ndarray, persons: Sequence[str]) -> tuple[float, float, float]:
    known = ~np.isnan(values)
    who = [person for person, is_known in zip(persons, known, strict=True) if is_known]
    # An interval over one person would have no width.
    ends = bootstrap_interval(values[known].tolist(), groups=who) if len(set(who)) > 1 else (math.nan, math.nan)
    return (float(values[known].mean()) if who else math.nan, *ends)


def write_json(path: Path, settings: dict[str, Any], summary: Summary, clips: Sequence[Failure]) -> None:
    """Write settings and summary as JSON; infinity as "inf", NaN as null."""
    content = settings | {
        "pairs_scored": summary.pairs,
        "pairs_failed": summary.failed,
        "videos": summary.videos,
        "scores": [plain(score._asdict()) for score in summary.scores],
        "expression": [plain(score._asdict()) for score in summary.transfer],
        "strangers": plain(summary.strangers._asdict()) if summary.strangers else None,
        "failed_clips": [clip._asdict() for clip in clips],
        "failed_pairs": [{"reason": reason, "pairs": number} for reason, number in summary.failures],
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for JSON, which knows neither infinity ("inf") nor NaN (null)."""

    def one(value: Any) -> Any:
        if not isinstance(value, float) or math.isfinite(value):
            return value
        return None if math.isnan(value) else str(value)

    return {key: one(value) for key, value in values.items()}
