"""The tables of the paper: the rows that it prints, and measured rows in the same columns."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ..media.atomic import whole_file
from .markdown import digits, title
from .report import Summary, plain

NAMED = ("name", "protocol", "total", "extractors", "csim", "weights", "depthaware")
"""Settings of a measurement that stand below its rows."""


class PaperTable(NamedTuple):
    """A table of the paper.

    Attributes:
        number: 1 to 4.
        what: it shows.
        columns: names of metrics.
        printed: model -> its values, as printed.
        notes: on all tables.
    """

    number: int
    what: str
    columns: tuple[str, ...]
    printed: Mapping[str, Sequence[float]]
    notes: tuple[str, ...]

    def lines(self, measured: Mapping[str, Sequence[float]]) -> list[str]:
        """Markdown: the printed rows, then the measured ones.

        Args:
            measured: row -> a value for each column, NaN where there is none.
        """
        names = [column.lower() for column in self.columns]
        lines = [f"| | | {' | '.join(map(title, names))} |", "|---|---|" + "---:|" * len(names)]
        for model, values in self.printed.items():
            cells = (f"{x:.2f}" if name == "prmse" else f"{x:.3f}" for name, x in zip(names, values, strict=True))
            lines.append(f"| {model} | printed | {' | '.join(cells)} |")
        return lines + [f"| {row} | measured | {' | '.join(map(digits, x))} |" for row, x in measured.items()]

    def write(self, folder: Path, settings: Mapping[str, Any], summary: Summary) -> None:
        """Write table.md and table.json.

        Args:
            folder: of the report.
            settings: of the measurement.
            summary: its result.
        """
        measured = self.measured(settings["name"], summary)
        described = {key: settings[key] for key in NAMED if key in settings}
        text = [f"# Table {self.number} of Hong et al. 2022: {self.what}", "", *self.lines(measured), "", _COMPARE, ""]
        text += [*(f"- {note}" for note in self.notes), "", "Measured with:", ""]
        text += [f"- {key}: {json.dumps(value)}" for key, value in described.items()]
        rows = {row: plain(dict(zip(self.columns, values, strict=True))) for row, values in measured.items()}
        content = {**self._asdict(), "measured": rows, "measured_with": described}
        for name, written in (("table.md", "\n".join(text)), ("table.json", json.dumps(content, indent=2))):
            with whole_file(folder / name) as part:
                part.write_text(written + "\n", encoding="utf-8")

    def measured(self, name: str, summary: Summary) -> dict[str, list[float]]:
        """Values of the model, its ablations and the baselines in the columns of this table."""
        means = {(score.prediction, score.metric): score.mean for score in summary.scores}
        rows = [row for row in dict.fromkeys(score.prediction for score in summary.scores) if " - " not in row]
        if summary.strangers:
            means["strangers", "csim"] = summary.strangers.csim
            rows.append("strangers")
        named = {row: name if row == "model" else row for row in rows}
        return {named[row]: [means.get((row, column.lower()), math.nan) for column in self.columns] for row in rows}


_COMPARE = (
    "Printed rows are the paper's, of its own data, extractors and pairs; measured rows are of the data and extractors "
    "named below. The two are comparable where these are the same. `copy` is the unchanged source, `perfect` the "
    "unchanged driving frame, `strangers` the CSIM of different persons of this data."
)


def read_table(number: int) -> PaperTable:
    """Read a table of the paper, as printed.

    Args:
        number: 1 to 4.

    Raises:
        ValueError: if there is no such table.
    """
    content = json.loads((files("depthaware") / "assets" / "tables.json").read_text(encoding="utf-8"))
    if not isinstance(number, int) or str(number) not in content:
        raise ValueError(f"table: expected 1 to 4, got {number!r}")
    table = content[str(number)]
    return PaperTable(number, table["what"], tuple(table["columns"]), table["rows"], tuple(content["notes"]))
