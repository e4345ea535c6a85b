"""Put the results of `benchmark.py` into docs/benchmarks.md, between the comments that name their files.

python examples/benchmarks/benchmark_tables.py
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthaware.training.options import option, run_recipe

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BLOCK = re.compile(r"<!-- tables: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
HEADS = {
    "milliseconds": "ms a frame",
    "ratio": "times as fast",
    "difference": "largest difference",
    "psnr": "PSNR, dB",
    "megabytes": "peak MB",
    "gigaflop": "GFLOP a frame",
    "share": "share of the peak rate",
    "per_core": "frames/s per core",
    "rate": "GFLOP/s",
    "tiny_ratio": "dagan-tiny in the same dtype: times as fast",
}


@dataclass(frozen=True)
class Options:
    """The page that is filled in."""

    page: str | None = option(None, "page beside the JSON files; docs/benchmarks.md of the checkout if not given")


def main(options: Options) -> None:
    page = PAGE if options.page is None else Path(options.page)
    page.write_text(filled(page.read_text(), page.parent))


def tables(found: dict[str, Any]) -> str:
    """Markdown of one JSON file: the machine, then a table for each measurement."""
    parts = [", ".join(f"{name} {value}" for name, value in found["machine"].items() if value) + "."]
    for title, value in found.items():
        if isinstance(value, dict) and title not in ("machine", "options"):
            parts += [f"### {title[0].upper()}{title[1:]}", table(value)]
    return "\n\n".join(parts)


def table(rows: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [
        "| | " + " | ".join(HEADS.get(column, column) for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(shown(column, row[column]) for column in columns) + " |")
    return "\n".join(lines)


def shown(column: str, value: float) -> str:
    if column == "difference":
        return f"{value:.0e}" if value else "0"
    if column == "gigaflop" and not value:
        return ""
    if column == "psnr":
        return f"{value:.0f}" if value < 190 else "equal"
    if column == "share":
        return f"{value:.0%}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def filled(page: str, folder: Path = PAGE.parent) -> str:
    """Replace every block of the page by the tables of its file in a folder."""

    def block(match: re.Match[str]) -> str:
        file = folder / match[1]
        if not file.exists():
            return match[0]
        found = json.loads(file.read_text())
        return f"<!-- tables: {match[1]} -->\n\n{tables(found)}\n\n<!-- end -->"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
