"""Summary of results: means and intervals over videos, written as JSON and Markdown."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..media.atomic import whole_file
from ..metrics import bootstrap_interval
from .metric_specs import METRICS
from .pairs import Failure
from .run import PREDICTIONS, Result

DIFFERENCE = "model - copy"
"""Name of the difference between the scores of the model and of the copied source, pair by pair."""
_MEANS = "Means over pairs. `copy` is the unchanged source, `perfect` the unchanged driving frame."
_INTERVALS = (
    "Means over driving videos, with 95 % bootstrap intervals over videos. Skipped: no face was found; "
    "for jitter also the first and last frame of each batch. "
    "Differences are taken pair by pair, where both predictions have a value."
)


class Score(NamedTuple):
    """Summary of one metric for one prediction.

    Attributes:
        metric: its name.
        prediction: one of `PREDICTIONS`, or `DIFFERENCE`.
        mean: mean over pairs.
        mean_of_videos: mean over driving videos of their means, so that each video has the same weight.
        low: lower end of the 95 % bootstrap interval of that mean.
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
        scores: for each metric that is defined for some pair, the three predictions and the difference.
        pairs: number of scored pairs.
        failed: number of failed pairs.
        videos: number of driving videos among the scored pairs.
        failures: reasons, and number of failed pairs for each.
    """

    scores: tuple[Score, ...]
    pairs: int
    failed: int
    videos: int
    failures: tuple[tuple[str, int], ...]


def summarize(results: Iterable[Result], metrics: Sequence[str]) -> Summary:
    """Summarize the results of `evaluate`; memory grows with the number of videos, not of pairs.

    Args:
        results: in any order.
        metrics: names, in the order of the scores.
    """
    sums: dict[str, np.ndarray] = {}  # per video: (sum, number of values, number of NaN) x prediction x metric
    failures: Counter[str] = Counter()
    pairs = 0
    for pair, scores, failure in results:
        if failure:
            failures[failure] += 1
            continue
        with np.errstate(invalid="ignore"):  # inf - inf, for two infinite PSNR
            values = np.vstack((scores, np.subtract(scores[0], scores[1])))
        missing = np.isnan(values)
        applies = [pair.has_truth or not METRICS[name].needs_truth for name in metrics]
        counts = np.stack((np.where(missing, 0, values), ~missing, missing & applies))
        sums[pair.driving_video] = sums.get(pair.driving_video, 0) + counts
        pairs += 1
    scored = tuple(_scores(metrics, np.stack([sums[video] for video in sorted(sums)]))) if sums else ()
    return Summary(scored, pairs, failures.total(), len(sums), tuple(sorted(failures.items())))


def _scores(metrics: Sequence[str], sums: np.ndarray) -> Iterable[Score]:
    total, count, skipped = sums.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means, by_video = total / count, sums[:, 0] / sums[:, 1]
    for m, metric in enumerate(metrics):
        if not (count[:, m].any() or skipped[:, m].any()):
            continue
        for p, prediction in enumerate((*PREDICTIONS, DIFFERENCE)):
            number = int(count[p, m]), int(skipped[p, m])
            yield Score(metric, prediction, float(means[p, m]), *_interval(by_video[:, p, m]), *number)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    kept = values[~np.isnan(values)]
    return (float(kept.mean()) if kept.size else math.nan, *bootstrap_interval(kept))


def write_json(path: Path, settings: dict[str, Any], summary: Summary, clips: Sequence[Failure]) -> None:
    """Write settings and summary as JSON; infinity as "inf", NaN as null."""
    content = settings | {
        "pairs_scored": summary.pairs,
        "pairs_failed": summary.failed,
        "videos": summary.videos,
        "scores": [{key: _plain(value) for key, value in score._asdict().items()} for score in summary.scores],
        "failed_clips": [clip._asdict() for clip in clips],
        "failed_pairs": [{"reason": reason, "pairs": number} for reason, number in summary.failures],
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def write_markdown(
    path: Path, settings: dict[str, Any], summary: Summary, clips: Sequence[Failure], sheet: Sequence[str]
) -> None:
    """Write settings and summary as Markdown tables.

    Args:
        path: output file.
        settings: of the measurement.
        summary: its result.
        clips: clips without pairs, and the reasons.
        sheet: titles of the rows of the contact sheet.
    """
    lines = [f"# {settings['name']}: {settings['protocol']}", ""]
    lines += [f"{summary.pairs} pairs, {summary.videos} driving videos, {summary.failed} pairs failed.", ""]
    lines += [*means_table(settings["name"], summary), "", _MEANS, ""]
    lines += [*_interval_table(settings["name"], summary), "", _INTERVALS, ""]
    if clips or summary.failures:
        lines += ["| failed | pairs |", "|---|---|"]
        lines += [f"| {_cell(clip.reason)} | the whole clip |" for clip in clips]
        lines += [f"| {_cell(reason)} | {number} |" for reason, number in summary.failures]
        lines += [""]
    if sheet:
        lines += ["![best, median and worst pairs](sheet.png)", ""]
        lines += [*(f"{i}. {row}" for i, row in enumerate(sheet, 1)), ""]
    lines += ["Measured with:", "", *(f"- {key}: {_cell(json.dumps(value))}" for key, value in settings.items())]
    with whole_file(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")


def means_table(name: str, summary: Summary) -> list[str]:
    """Format the means over pairs as a Markdown table: a column per metric, a row per prediction."""
    metrics = list(dict.fromkeys(score.metric for score in summary.scores))
    means = {(score.prediction, score.metric): score.mean for score in summary.scores}
    lines = [f"| | {' | '.join(_title(metric) for metric in metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    for prediction, label in zip(PREDICTIONS, (name, *PREDICTIONS[1:]), strict=True):
        lines.append(f"| {label} | {' | '.join(_digits(means[prediction, metric]) for metric in metrics)} |")
    return lines


def _interval_table(name: str, summary: Summary) -> list[str]:
    lines = ["| metric | of | mean over videos | 95 % interval | pairs | skipped |", "|---|---|---|---|---|---|"]
    for metric, prediction, _, mean, low, high, pairs, skipped in summary.scores:
        ends = f"{_digits(low)} to {_digits(high)}"
        of = prediction.replace("model", name)
        lines.append(f"| {_title(metric)} | {of} | {_digits(mean)} | {ends} | {pairs} | {skipped} |")
    return lines


def _title(metric: str) -> str:
    name = {"ms_ssim": "MS-SSIM", "jitter": "jitter"}.get(metric, metric.upper())
    return f"{name} {'↑' if metric in METRICS and METRICS[metric].higher else '↓'}"


def _digits(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if value == math.inf else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
