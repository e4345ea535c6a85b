"""Tables of an ablation: means of each row, and differences to its baseline with intervals over persons.

They are made from what examples/ablation.py writes, a dict with these entries:

- `options`: of the ablation; `machine`: on which it ran.
- `rows`: `Row` as a dict, of all rows with results.
- `runs`: a dict for each row and seed, with `row`, `seed`, `parameters`, `seconds`, `gate` (of the attention, or None),
  `found` (share of frames with a value in every metric), and `scores`: for each metric a value for each test clip;
  those across identities, with the source as CSIM's target, have "cross_" before their names.
- `copy`: scores of copying the source; `persons`: number of the person in each test clip; `pairs`: how many.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..metrics import bootstrap_interval
from .metric_specs import METRICS

__all__ = ["Difference", "Row", "difference", "fill_page", "table"]

_BLOCK = re.compile(r"(<!-- tables -->\n).*(<!-- end -->)", re.DOTALL)
_DIGITS = {"psnr": 2, "akd": 2, "prmse": 2}
_ACROSS = "cross_"  # before the names of metrics across identities


class Row(NamedTuple):
    """A row of the paper's Table 4.

    Attributes:
        name: as printed, without "Baseline" before "w/".
        against: name of the row that it is compared with.
        num_keypoints: option of `DaGAN`.
        keypoint_distance: weight of that loss, which FOMM does not have.
        keypoint_input: option of `DaGAN`.
        attention: option of `DaGAN`.
    """

    name: str
    against: str
    num_keypoints: int
    keypoint_distance: float
    keypoint_input: str
    attention: str

    def model_options(self) -> dict[str, Any]:
        """Options of `DaGAN`."""
        return {name: getattr(self, name) for name in ("num_keypoints", "keypoint_input", "attention")}


class Difference(NamedTuple):
    """Difference of two rows in one metric.

    Attributes:
        mean: over persons, of the mean over seeds.
        low: lower end of the 95 % bootstrap interval of `mean` over persons.
        high: upper end.
        seeds: mean over persons, for each seed.
    """

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


def _by_person(found: Mapping[str, Any], row: str, metric: str) -> dict[int, np.ndarray]:
    """seed -> (persons,): means over each person's clips."""
    runs = [run for run in found["runs"] if run["row"] == row]
    return {run["seed"]: _person_means(found, run["scores"], metric) for run in runs}


def _person_means(found: Mapping[str, Any], scores: Mapping[str, Sequence[float]], metric: str) -> np.ndarray:
    """(persons,): means over those clips of each person that count."""
    counts = _counting(found, metric)
    values, who = np.array(scores[metric])[counts], np.array(found["persons"])[counts]
    return np.array([values[who == person].mean() for person in np.unique(who)])


def _counting(found: Mapping[str, Any], metric: str) -> np.ndarray:
    """(clips,): True for clips with a value in all runs and in copying, so that all rows are means over the same."""
    runs = [run["scores"][metric] for run in found["runs"]]
    return np.isfinite(np.array([found["copy"][metric], *runs])).all(axis=0)


def difference(found: Mapping[str, Any], row: Row, metric: str) -> Difference:
    """Difference of a row to its `against`, paired by seed and person.

    Args:
        found: results of the ablation.
        row: with results.
        metric: name of the metric.
    """
    ours, theirs = (_by_person(found, name, metric) for name in (row.name, row.against))
    paired = np.stack([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    persons = paired.mean(0)
    return Difference(persons.mean(), *bootstrap_interval(persons.tolist()), tuple(paired.mean(1)))


def table(found: Mapping[str, Any]) -> str:
    """Markdown: conditions of the measurement, means of the rows, and differences.

    Args:
        found: results of the ablation.
    """
    metrics = [metric for metric in found["copy"] if _counting(found, metric).any()]
    seeds = {row["name"]: {run["seed"] for run in found["runs"] if run["row"] == row["name"]} for row in found["rows"]}
    rows = [Row(**row) for row in found["rows"] if seeds[row["name"]]]
    pairs = [row for row in rows if row.name != row.against and seeds[row.name] & seeds.get(row.against, set())]
    parts = [_conditions(found), _means(found, rows, metrics)]
    if pairs:
        parts += [_differences(found, pairs, metrics), DIFFERENCES]
    return "\n\n".join(parts)


DIFFERENCES = (
    "Row minus Baseline, or minus FOMM, of the same seed and clip, averaged over a person's clips and over seeds. In "
    "brackets: the 95 % bootstrap interval of the mean over persons. It holds for these very networks; what another "
    "seed changes is shown by the last column, the L1 difference of each seed. **Bold**: the interval is on one side "
    "of 0, and so is every seed."
)


def _conditions(found: Mapping[str, Any]) -> str:
    options, runs, persons = found["options"], found["runs"], found["persons"]
    where = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if value)
    shares = min(run["found"] for run in runs)
    trained = sorted({sum(run["row"] == row["name"] for run in runs) for row in found["rows"]} - {0})
    return (
        f"{options['images']} images of {options['size']} px in batches of {options['batch']} for each row and seed, "
        f"learning rate {options['learning_rate']:g}; {found['pairs']} test pairs of {len(persons)} clips of "
        f"{len(set(persons))} persons. Means over persons ± standard deviation over "
        f"{' to '.join(map(str, dict.fromkeys((trained[0], trained[-1]))))} seeds. {_left_out(found)}"
        f"Parameters are the trained ones. At least {shares:.1%} of a run's results have every metric. {where}."
    )


def _left_out(found: Mapping[str, Any]) -> str:
    """Metrics in which some persons do not count."""
    persons = np.array(found["persons"])
    counts = {metric: len(set(persons[_counting(found, metric)])) for metric in found["copy"]}
    few = [f"{_title(metric)[:-2]} of {count}" for metric, count in counts.items() if count < len(set(persons))]
    return (
        f"{' and '.join(few)} persons: a clip counts where it has a value in every run and in copying. " if few else ""
    )


def _means(found: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """A line for copying the source, and one for each row."""
    copied = [_shown(_person_means(found, found["copy"], metric).mean(), metric) for metric in metrics]
    lines = ["| | parameters | seconds | gate | " + " | ".join(map(_title, metrics)) + " |"]
    lines += ["|---|" + "---:|" * (3 + len(metrics)), "| copying the source | | | | " + " | ".join(copied) + " |"]
    for row in rows:
        runs = [run for run in found["runs"] if run["row"] == row.name]
        cells = [f"{runs[0]['parameters']:,}", f"{np.mean([run['seconds'] for run in runs]):.0f}"]
        cells.append("" if runs[0]["gate"] is None else f"{np.mean([run['gate'] for run in runs]):+.3f}")
        for metric in metrics:
            seeds = [values.mean() for values in _by_person(found, row.name, metric).values()]
            spread = f" ± {_shown(np.std(seeds, ddof=1), metric)}" if len(seeds) > 1 else ""
            cells.append(_shown(np.mean(seeds), metric) + spread)
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _differences(found: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """A line for each row that is compared with another."""
    lines = ["| | " + " | ".join(map(_title, metrics)) + " | L1 of each seed |", "|---|" + "---:|" * (1 + len(metrics))]
    for row in rows:
        each = [difference(found, row, metric) for metric in metrics]
        seeds = difference(found, row, "l1").seeds
        cells = [_cell(*pair) for pair in zip(each, metrics, strict=True)]
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {', '.join(f'{x:+.4f}' for x in seeds)} |")
    return "\n".join(lines)


def _cell(found: Difference, metric: str) -> str:
    mean, low, high = (_shown(value, metric, "+") for value in found[:3])
    signs = {float(np.sign(value)) for value in (found.low, found.high, *found.seeds)}
    clear = signs in ({1.0}, {-1.0})
    return f"{f'**{mean}**' if clear else mean} [{low}, {high}]"


def _shown(value: float, metric: str, sign: str = "") -> str:
    return f"{value:{sign}.{_DIGITS.get(metric.removeprefix(_ACROSS), 4)}f}"


def _title(metric: str) -> str:
    name = metric.removeprefix(_ACROSS)
    across = " across identities" if metric.startswith(_ACROSS) else ""
    return f"{name.upper()}{across} {'↑' if METRICS[name].higher else '↓'}"


def fill_page(page: str, found: Mapping[str, Any]) -> str:
    """A Markdown page with new tables between ``<!-- tables -->`` and ``<!-- end -->``.

    Args:
        page: text with the two comments.
        found: results of the ablation.

    Raises:
        ValueError: if the page lacks the comments.
    """
    if not _BLOCK.search(page):
        raise ValueError("page: expected the comments <!-- tables --> and <!-- end -->, found none")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{table(found)}\n\n{match[2]}", page)
