"""The tables of an ablation, from what ablation.py measured; put into docs/ablation.md.

python examples/ablation_table.py --found runs/ablation/ablation.json
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from depthaware.evaluation import METRICS
from depthaware.metrics import bootstrap_interval
from depthaware.training.options import run

PAGE = Path(__file__).parents[1] / "docs" / "ablation.md"
FOUND = PAGE.with_suffix(".json")
BLOCK = re.compile(r"(<!-- tables -->\n).*(<!-- end -->)", re.DOTALL)
DIGITS = {"psnr": 2, "akd": 2}


@dataclass(frozen=True)
class Options:
    """Where the figures come from."""

    found: str = ""  # ablation.json to keep beside the page; "": the one that is there


class Row(NamedTuple):
    """A row of the paper's Table 4.

    Attributes:
        name: as printed.
        against: the row that its difference is taken to.
        num_keypoints: as these three, an option of `DaGAN`.
        keypoint_distance: weight of that loss, which FOMM does not have.
        keypoint_input: what the detector looks at.
        attention: of the generator.
    """

    name: str
    against: str
    num_keypoints: int
    keypoint_distance: float
    keypoint_input: str
    attention: str

    def flags(self) -> dict[str, Any]:
        """Options of train_dagan.py."""
        return {name: value for name, value in self._asdict().items() if name not in ("name", "against")}


class Difference(NamedTuple):
    """Of a row to another, a metric's.

    Attributes:
        mean: over persons, of the mean over seeds.
        low: lower end of its 95 % bootstrap interval over persons.
        high: upper end.
        seeds: the mean over persons with each seed.
    """

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


def by_person(found: Mapping[str, Any], row: str, metric: str) -> dict[int, np.ndarray]:
    """seed -> (persons,): means over each person's clips."""
    runs = [run for run in found["runs"] if run["row"] == row]
    return {run["seed"]: person_means(found, run["scores"], metric) for run in runs}


def person_means(found: Mapping[str, Any], scores: Mapping[str, Sequence[float]], metric: str) -> np.ndarray:
    """The mean of each person's clips, of those clips that count."""
    counts = counting(found, metric)
    values, who = np.array(scores[metric])[counts], np.array(found["persons"])[counts]
    return np.array([values[who == person].mean() for person in np.unique(who)])


def counting(found: Mapping[str, Any], metric: str) -> np.ndarray:
    """Which clips have a value in all runs and in copying: else the rows would be means over different persons."""
    runs = [run["scores"][metric] for run in found["runs"]]
    return np.isfinite(np.array([found["copy"][metric], *runs])).all(axis=0)


def difference(found: Mapping[str, Any], row: Row, metric: str) -> Difference:
    """Of a row to its `against`, seed by seed and person by person."""
    ours, theirs = (by_person(found, name, metric) for name in (row.name, row.against))
    paired = np.stack([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    persons = paired.mean(0)
    return Difference(persons.mean(), *bootstrap_interval(persons.tolist()), tuple(paired.mean(1)))


def table(found: Mapping[str, Any]) -> str:
    """Markdown: how it was measured, the means, and the differences."""
    metrics = [metric for metric in found["copy"] if counting(found, metric).any()]
    seeds = {row["name"]: {run["seed"] for run in found["runs"] if run["row"] == row["name"]} for row in found["rows"]}
    rows = [Row(**row) for row in found["rows"] if seeds[row["name"]]]
    pairs = [row for row in rows if row.name != row.against and seeds[row.name] & seeds.get(row.against, set())]
    parts = [how(found), means(found, rows, metrics)]
    if pairs:
        parts += [differences(found, pairs, metrics), DIFFERENCES]
    return "\n\n".join(parts)


DIFFERENCES = (
    "Row minus Baseline, or minus FOMM, of the same seed and clip, averaged over a person's clips and over seeds. In "
    "brackets: the 95 % bootstrap interval of the mean over persons. It holds for these very networks; what another "
    "seed changes is shown by the last column, the L1 difference of each seed. **Bold**: the interval is on one side "
    "of 0, and so is every seed."
)


def how(found: Mapping[str, Any]) -> str:
    options, runs, persons = found["options"], found["runs"], found["persons"]
    where = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if value)
    shares = min(run["found"] for run in runs)
    trained = sorted({sum(run["row"] == row["name"] for run in runs) for row in found["rows"]} - {0})
    return (
        f"{options['images']} images of {options['size']} px in batches of {options['batch']} for each row and seed, "
        f"learning rate {options['learning_rate']:g}; {found['pairs']} test pairs of {len(persons)} clips of "
        f"{len(set(persons))} persons. Means over persons ± standard deviation over "
        f"{' to '.join(map(str, dict.fromkeys((trained[0], trained[-1]))))} seeds. {left_out(found)}"
        f"Parameters are the trained ones. At least {shares:.1%} of a run's results have every metric. {where}."
    )


def left_out(found: Mapping[str, Any]) -> str:
    """Of which metrics some persons do not count."""
    persons = np.array(found["persons"])
    counts = {metric: len(set(persons[counting(found, metric)])) for metric in found["copy"]}
    few = [f"{metric.upper()} of {count}" for metric, count in counts.items() if count < len(set(persons))]
    return (
        f"{' and '.join(few)} persons: a clip counts where it has a value in every run and in copying. " if few else ""
    )


def means(found: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """A line for copying the source, and one for each row."""
    copied = [shown(person_means(found, found["copy"], metric).mean(), metric) for metric in metrics]
    lines = ["| | parameters | seconds | gate | " + " | ".join(map(title, metrics)) + " |"]
    lines += ["|---|" + "---:|" * (3 + len(metrics)), "| copying the source | | | | " + " | ".join(copied) + " |"]
    for row in rows:
        runs = [run for run in found["runs"] if run["row"] == row.name]
        cells = [f"{runs[0]['parameters']:,}", f"{np.mean([run['seconds'] for run in runs]):.0f}"]
        cells.append("" if runs[0]["gate"] is None else f"{np.mean([run['gate'] for run in runs]):+.3f}")
        for metric in metrics:
            seeds = [values.mean() for values in by_person(found, row.name, metric).values()]
            spread = f" ± {shown(np.std(seeds, ddof=1), metric)}" if len(seeds) > 1 else ""
            cells.append(shown(np.mean(seeds), metric) + spread)
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(found: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """A line for each row that is compared with another."""
    lines = ["| | " + " | ".join(map(title, metrics)) + " | L1 of each seed |", "|---|" + "---:|" * (1 + len(metrics))]
    for row in rows:
        each = [difference(found, row, metric) for metric in metrics]
        seeds = difference(found, row, "l1").seeds
        cells = [cell(*pair) for pair in zip(each, metrics, strict=True)]
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {', '.join(f'{x:+.4f}' for x in seeds)} |")
    return "\n".join(lines)


def cell(found: Difference, metric: str) -> str:
    mean, low, high = (shown(value, metric, "+") for value in found[:3])
    signs = {float(np.sign(value)) for value in (found.low, found.high, *found.seeds)}
    clear = signs in ({1.0}, {-1.0})
    return f"{f'**{mean}**' if clear else mean} [{low}, {high}]"


def shown(value: float, metric: str, sign: str = "") -> str:
    return f"{value:{sign}.{DIGITS.get(metric, 4)}f}"


def title(metric: str) -> str:
    return f"{metric.upper()} {'↑' if METRICS[metric].higher else '↓'}"


def filled(page: str) -> str:
    """The page with its tables made anew."""
    text = table(json.loads(FOUND.read_text()))
    return BLOCK.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)


def main(options: Options) -> None:
    if options.found:
        shutil.copyfile(options.found, FOUND)
    PAGE.write_text(filled(PAGE.read_text()))


if __name__ == "__main__":
    run(main, Options, __doc__)
