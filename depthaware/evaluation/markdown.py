"""Report of an evaluation in Markdown."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..media.atomic import whole_file
from .expression import transfer_table
from .metric_specs import METRICS
from .pairs import Failure
from .report import Summary

_MEANS = "Means over pairs. `copy` is the unchanged source, `perfect` the unchanged driving frame."
_INTERVALS = (
    "Means over driving videos, with 95 % bootstrap intervals over persons. Skipped: no face was found; "
    "for jitter also the first and last frame of each batch. "
    "Differences are taken pair by pair, where both predictions have a value."
)


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
    target = settings.get("csim", "auto")
    lines += [*means_table(settings["name"], summary, csim=target), "", _MEANS + _notes(summary, target), ""]
    if summary.transfer:
        lines += [*transfer_table(settings["name"], summary.transfer), ""]
    lines += [*_interval_table(settings["name"], summary, target), "", _INTERVALS, ""]
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


_TARGETS = {
    "auto": "the driving frame within one video, else the source",
    "source": "the source",
    "driving": "the driving frame",
}


def _notes(summary: Summary, csim: str) -> str:
    """Explain those rows and columns of the table of means that not every report has."""
    rows = {score.prediction for score in summary.scores}
    notes = [" `compressed` is the driving frame after video compression."] if "compressed" in rows else []
    if any(score.metric == "csim" for score in summary.scores):
        notes.append(f" CSIM compares with {_TARGETS[csim]}.")
    if summary.strangers:
        low, high = digits(summary.strangers.low), digits(summary.strangers.high)
        among = f"{summary.strangers.persons} persons"
        among += f" ({low} to {high})" if summary.strangers.persons > 2 else ""  # of two, each has the same mean
        notes.append(f" `strangers`: images of different persons of this data, {among}.")
    return "".join(notes)


def means_table(name: str, summary: Summary, *, csim: str = "auto") -> list[str]:
    """Format the means over pairs as a Markdown table: a column per metric, a row per prediction.

    Args:
        name: of the model.
        summary: of the results.
        csim: image that CSIM compares with.
    """
    metrics = list(dict.fromkeys(score.metric for score in summary.scores))
    means = {(score.prediction, score.metric): score.mean for score in summary.scores}
    rows = [row for row in dict.fromkeys(score.prediction for score in summary.scores) if " - " not in row]
    if summary.strangers:
        means["strangers", "csim"] = summary.strangers.csim
        rows.append("strangers")
    lines = [f"| | {' | '.join(title(metric, csim) for metric in metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    for row in rows:
        cells = [digits(means.get((row, metric), math.nan)) for metric in metrics]
        lines.append(f"| {name if row == 'model' else row} | {' | '.join(cells)} |")
    return lines


def _interval_table(name: str, summary: Summary, csim: str) -> list[str]:
    lines = ["| metric | of | mean over videos | 95 % interval | pairs | skipped |", "|---|---|---|---|---|---|"]
    for metric, prediction, _, mean, low, high, pairs, skipped in summary.scores:
        ends = "–" if math.isnan(low) else f"{digits(low)} to {digits(high)}"
        of = prediction.replace("model", name, 1)
        lines.append(f"| {title(metric, csim)} | {of} | {digits(mean)} | {ends} | {pairs} | {skipped} |")
    return lines


def title(metric: str, csim: str = "auto") -> str:
    """Name of a metric with an arrow in the direction of better values."""
    name = {"ms_ssim": "MS-SSIM", "jitter": "jitter"}.get(metric, metric.upper())
    if metric == "csim" and csim != "auto":
        name = f"CSIM to {csim}"
    return f"{name} {'↑' if metric in METRICS and METRICS[metric].higher else '↓'}"


def digits(value: float) -> str:
    """Four digits; a dash for NaN."""
    return "–" if math.isnan(value) else "∞" if value == math.inf else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
