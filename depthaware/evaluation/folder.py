"""An evaluation into a folder: resumable, shared by several processes, and a report at the end."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ..dagan import DaGAN
from ..media.atomic import whole_file
from ..media.video import Progress
from ..metrics import FID
from .clip_reader import ClipReader
from .metric_specs import Extractor, Scorer
from .pairs import PairList, unite_names
from .report import Score, Summary, summarize, write_json, write_markdown
from .results_log import ResultsLog, open_report
from .run import PREDICTIONS, Evaluator, Mode, batches
from .sheet import find_extremes, write_sheet


class Report(NamedTuple):
    """How far an evaluation has come.

    Attributes:
        folder: where it is.
        done: pairs with a line in pairs.csv, failed ones included.
        total: pairs in all.
        summary: None while other processes are still at work.
    """

    folder: Path
    done: int
    total: int
    summary: Summary | None

    def __str__(self) -> str:
        if self.summary is None:
            return f"{self.folder}: {self.done} of {self.total} pairs are done, the rest is for other processes"
        return (
            f"{self.folder}: {self.summary.pairs} pairs of {self.summary.videos} driving videos, "
            f"{self.summary.failed} failed"
        )


def evaluate_to_folder(
    model: DaGAN,
    plan: PairList,
    footage: ClipReader,
    output: str | Path,
    *,
    name: str = "model",
    protocol: str = "pairs",
    metrics: Sequence[str] = ("ssim", "psnr", "l1"),
    extractors: Mapping[str, Extractor] | None = None,
    mode: Mode = "auto",
    batch_size: int = 8,
    strict: bool = False,
    shard: tuple[int, int] = (0, 1),
    remarks: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """`evaluate`, with a line on disk for every finished pair, and a report when there is one for all.

    What was finished before is not done again. Processes share the work without speaking to each other: each takes
    every n-th batch and writes a file of its own, and whichever sees all pairs done writes the report.

    Args:
        model: on the device where the work shall be done.
        plan: pairs, and the clips that gave none.
        footage: where the frames come from.
        output: folder; it is made, or gone on with if it was begun with the same model, pairs and options.
        name: of the model, for the report.
        protocol: where the pairs come from, for the report.
        metrics: as in `evaluate`, and "fid", which needs all pairs in one go.
        extractors: as in `evaluate`.
        mode: as in `evaluate`.
        batch_size: as in `evaluate`.
        strict: raise what is wrong with a clip or pair, instead of reporting it.
        shard: number of this process, and of all of them.
        remarks: more for the report; they must be the same when it is gone on with.
        progress: called with the numbers of pairs done now, and of those to do.

    Raises:
        ValueError: if the folder holds another report or other files, no pair could be evaluated, or FID is asked for
            alone or of several processes.
    """
    output, (rank, world) = Path(output), shard
    if strict and plan.failures:
        raise ValueError(plan.failures[0].reason)
    if "fid" in metrics:
        _check_fid(metrics, world)
    plan = plan._replace(pairs=unite_names(plan.pairs, footage))
    scorer = Scorer([metric for metric in metrics if metric != "fid"], extractors=extractors)
    names = [measure.name for measure in scorer.measures]
    fid = tuple(FID() for _ in PREDICTIONS) if "fid" in metrics else ()
    evaluator = Evaluator(model, footage, scorer, mode=mode, strict=strict, fid=fid)
    work = list(batches(plan.pairs, batch_size))
    settings: dict[str, Any] = {"name": name, "protocol": protocol, "metrics": [*names, *(["fid"] if fid else [])]}
    settings |= dict(mode=mode, batch_size=batch_size, fit=footage.fit, image_size=footage.size, **(remarks or {}))
    settings |= {"extractors": {kind: _name(extractor) for kind, extractor in scorer.extractors.items()}}
    settings |= {"weights": fingerprint(model), "pairs": _digest(plan), "total": len(plan.pairs)}
    settings |= {package: version(package) for package in ("depthaware", "torch", "numpy", "av")}
    open_report(output, settings)
    journal = ResultsLog(output, plan.pairs, names, shard=rank if world > 1 else None)
    if fid and len(journal) and not (output / "fid.json").exists():
        raise ValueError(
            f"metric 'fid': cannot be gone on with, expected an empty folder, "
            f"{str(output)!r} holds {len(journal)} of {len(journal.pairs)} pairs"
        )
    todo = [batch for batch in work[rank::world] if not all(i in journal for i in batch)]
    count, total = 0, sum(map(len, todo))
    for batch in todo:
        journal.append(batch, evaluator([plan.pairs[i] for i in batch]))
        progress(count := count + len(batch), total)
    journal.look()
    if not journal.is_complete:
        return Report(output, len(journal), len(plan.pairs), None)
    if fid and not (output / "fid.json").exists():
        _write_fid(output, fid)
    summary = _finish(output, settings, plan, journal, evaluator, names)
    return Report(output, len(journal), len(plan.pairs), summary)


def fingerprint(model: DaGAN) -> str:
    """SHA-256 of a model's options and weights."""
    digest = hashlib.sha256(json.dumps(model.config, sort_keys=True).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(plan: PairList) -> str:
    return hashlib.sha256(json.dumps([plan.pairs, [f.name for f in plan.failures]]).encode()).hexdigest()


def _name(extractor: Extractor) -> str:
    return str(getattr(extractor, "name", type(extractor).__name__))


def _finish(
    output: Path,
    settings: dict[str, Any],
    plan: PairList,
    journal: ResultsLog,
    evaluator: Evaluator,
    names: Sequence[str],
) -> Summary:
    """Write what people look at, from pairs.csv alone."""
    journal.merge()
    summary = summarize((row.result for row in journal), names)
    if (output / "fid.json").exists():
        summary = summary._replace(scores=summary.scores + _read_fid(output, summary.pairs))
    write_json(output / "report.json", settings, summary, plan.failures)
    titles = _write_sheet(output / "sheet.png", journal, evaluator, names)
    write_markdown(output / "report.md", settings, summary, plan.failures, titles)
    if not summary.pairs:
        raise ValueError(f"none of {len(plan.pairs)} pairs could be evaluated: {summary.failures[0][0]}")
    return summary


def _write_sheet(path: Path, journal: ResultsLog, evaluator: Evaluator, names: Sequence[str]) -> list[str]:
    measure, extremes = find_extremes(journal, names)
    if measure is None:
        return []
    pairs = [journal.pairs[extreme.number] for extreme in extremes]
    titles = [
        f"{extreme.label}: {measure.name} {extreme.value:.4g}, {pair.driving_video} frame {pair.driving_frame}"
        + ("" if pair.has_truth else f" on {pair.source_video} frame {pair.source_frame}")
        for extreme, pair in zip(extremes, pairs, strict=True)
    ]
    write_sheet(path, ((t, p.has_truth, evaluator.draw(p)) for t, p in zip(titles, pairs, strict=True)))
    return titles


def _check_fid(metrics: Sequence[str], world: int) -> None:
    if set(metrics) == {"fid"}:
        raise ValueError("metrics: expected another one beside fid, such as l1,fid, got fid alone")
    if world > 1:
        raise ValueError(f"metric 'fid': compares all pairs at once, expected one process, got {world}")


def _write_fid(output: Path, fid: Sequence[FID]) -> None:
    values = [metric.compute() for metric in fid]
    with whole_file(output / "fid.json") as part:
        part.write_text(json.dumps(values) + "\n")


def _read_fid(output: Path, pairs: int) -> tuple[Score, ...]:
    values = zip(PREDICTIONS, json.loads((output / "fid.json").read_text()), strict=True)
    return tuple(Score("fid", who, value, math.nan, math.nan, math.nan, pairs, 0) for who, value in values)
