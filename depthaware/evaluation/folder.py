"""Resumable evaluation into a folder, shared by several processes, with a report at the end."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ..dagan import DaGAN
from ..data.clip_reader import ClipReader
from ..media.atomic import whole_file
from ..media.video import Progress
from ..metrics import FID
from ..pretrained.fingerprint import fingerprint
from .expression import summarize_transfer
from .markdown import write_markdown
from .metric_specs import CSIMTarget, Extractor, Scorer
from .pairs import PairList, batches, unite_names
from .paper_tables import PaperTable
from .report import Score, Summary, summarize, write_json
from .results_log import ResultsLog, open_report
from .run import PREDICTIONS, Evaluator, Mode
from .sheet import rank_pairs, write_sheet
from .strangers import csim_of_strangers


class Report(NamedTuple):
    """Progress or result of an evaluation in a folder.

    Attributes:
        folder: of the report.
        done: number of pairs with a line in pairs.csv, including failed ones.
        total: number of all pairs.
        summary: None while other processes are not finished.
    """

    folder: Path
    done: int
    total: int
    summary: Summary | None

    def __str__(self) -> str:
        if self.summary is None:
            return f"{self.folder}: {self.done} of {self.total} pairs are done, the others are left to other processes"
        return (
            f"{self.folder}: {self.summary.pairs} pairs of {self.summary.videos} driving videos, "
            f"{self.summary.failed} failed"
        )


def evaluate_to_folder(
    model: DaGAN,
    pair_list: PairList,
    reader: ClipReader,
    output: str | Path,
    *,
    name: str = "model",
    protocol: str = "pairs",
    metrics: Sequence[str] = ("ssim", "psnr", "l1"),
    extractors: Mapping[str, Extractor] | None = None,
    csim: CSIMTarget = "auto",
    ablate: Sequence[str] = (),
    table: PaperTable | None = None,
    mode: Mode = "auto",
    batch_size: int = 8,
    strict: bool = False,
    shard: tuple[int, int] = (0, 1),
    remarks: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Run `evaluate` with every result on disk, and write a report when all pairs are done.

    Finished pairs are not computed again. Processes share the work without communication: each takes every n-th batch
    and writes a file of its own, and the one that finds all pairs done writes the report.

    Args:
        model: on the target device.
        pair_list: pairs, and the clips that gave none.
        reader: of the clips, with the model's image size.
        output: folder; created, or resumed if it was created with the same model, pairs and options.
        name: of the model, for the report.
        protocol: origin of the pairs, for the report.
        metrics: as in `evaluate`, and "fid", which needs all pairs in one process.
        extractors: as in `evaluate`.
        csim: as in `evaluate`.
        ablate: keys of `ABLATIONS`, whose rows are added.
        table: table of the paper, to be written with the measured rows too.
        mode: as in `evaluate`.
        batch_size: as in `evaluate`.
        strict: raise the first error of a clip or pair instead of reporting it.
        shard: number of this process, and of all processes.
        remarks: further entries of the report, JSON-able; must be the same on resuming.
        progress: called with the numbers of pairs done in this call, and to do in this call.

    Raises:
        ValueError: if the folder holds another report or other files, no pair could be evaluated, or FID is requested
            without another metric or in several processes.
    """
    output, (rank, world) = Path(output), shard
    if strict and pair_list.failures:
        raise ValueError(pair_list.failures[0].reason)
    if "fid" in metrics:
        _check_fid(metrics, world)
    pair_list = pair_list._replace(pairs=unite_names(pair_list.pairs, reader))
    scorer = Scorer([metric for metric in metrics if metric != "fid"], extractors=extractors, csim=csim)
    names = [spec.name for spec in scorer.specs]
    fid = tuple(FID() for _ in PREDICTIONS) if "fid" in metrics else ()
    among = dict(pairs=pair_list.pairs, persons=pair_list.persons)
    evaluator = Evaluator(model, reader, scorer, mode=mode, strict=strict, fid=fid, ablate=ablate, **among)  # type: ignore[arg-type]
    settings: dict[str, Any] = {"name": name, "protocol": protocol, "metrics": [*names, *(["fid"] if fid else [])]}
    settings |= {"mode": mode, "batch_size": batch_size, "csim": csim, "rows": list(evaluator.rows)}
    settings |= _describe(evaluator, pair_list, remarks or {})
    open_report(output, settings)
    log = ResultsLog(output, pair_list.pairs, names, rows=evaluator.rows, shard=rank if world > 1 else None)
    if fid and len(log) and not (output / "fid.json").exists():
        raise ValueError(
            f"metric 'fid': cannot be resumed, expected an empty folder, "
            f"{str(output)!r} holds {len(log)} of {len(log.pairs)} pairs"
        )
    _score_missing(evaluator, log, list(batches(pair_list.pairs, batch_size))[rank::world], progress)
    if not log.is_complete:
        return Report(output, len(log), len(log.pairs), None)
    if fid and not (output / "fid.json").exists():
        _write_fid(output, fid)
    summary = _finish(output, settings, pair_list, log, evaluator, names)
    if table is not None:
        table.write(output, settings, summary)
    return Report(output, len(log), len(log.pairs), summary)


def _describe(evaluator: Evaluator, pair_list: PairList, remarks: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that identify model, data and software; equal on resuming."""
    model, reader, extractors = evaluator.model, evaluator.reader, evaluator.scorer.extractors
    return {
        "fit": reader.fit,
        "image_size": reader.size,
        **remarks,
        "extractors": {kind: str(getattr(x, "name", type(x).__name__)) for kind, x in extractors.items()},
        "weights": fingerprint(model, model.config),
        "pairs": _digest(pair_list),
        "total": len(pair_list.pairs),
        **{package: version(package) for package in ("depthaware", "torch", "numpy", "av")},
    }


def _digest(pair_list: PairList) -> str:
    content = [pair_list.pairs, [failure.name for failure in pair_list.failures]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _score_missing(evaluator: Evaluator, log: ResultsLog, work: Sequence[list[int]], progress: Progress) -> None:
    """Score the batches that are not in the log yet."""
    todo = [batch for batch in work if not all(i in log for i in batch)]
    done, total = 0, sum(map(len, todo))
    for batch in todo:
        log.append(batch, evaluator([log.pairs[i] for i in batch]))
        progress(done := done + len(batch), total)
    log.refresh()


def _finish(
    output: Path,
    settings: dict[str, Any],
    pair_list: PairList,
    log: ResultsLog,
    evaluator: Evaluator,
    names: Sequence[str],
) -> Summary:
    """Write the report from pairs.csv alone."""
    log.merge()
    among: dict[str, Any] = dict(rows=evaluator.rows, persons=pair_list.persons)
    summary = summarize((row.result for row in log), names, **among)
    summary = summary._replace(transfer=summarize_transfer((row.result for row in log), names, **among))
    if "csim" in names:
        strangers = csim_of_strangers(pair_list, evaluator.reader, evaluator.scorer)
        summary = summary._replace(strangers=strangers if strangers.persons > 1 else None)
    if (output / "fid.json").exists():
        summary = summary._replace(scores=summary.scores + _read_fid(output, summary.pairs))
    write_json(output / "report.json", settings, summary, pair_list.failures)
    titles = _write_sheet(output / "sheet.png", log, evaluator, names)
    write_markdown(output / "report.md", settings, summary, pair_list.failures, titles)
    if not summary.pairs:
        raise ValueError(f"none of {len(pair_list.pairs)} pairs could be evaluated: {summary.failures[0][0]}")
    return summary


def _write_sheet(path: Path, log: ResultsLog, evaluator: Evaluator, names: Sequence[str]) -> list[str]:
    spec, ranked = rank_pairs(log, names)
    if spec is None:
        return []
    pairs = [log.pairs[entry.number] for entry in ranked]
    titles = [
        f"{entry.label}: {spec.name} {entry.value:.4g}, {pair.driving_video} frame {pair.driving_frame}"
        + ("" if pair.has_truth else f" on {pair.source_video} frame {pair.source_frame}")
        for entry, pair in zip(ranked, pairs, strict=True)
    ]
    write_sheet(path, ((t, p.has_truth, evaluator.predict(p)) for t, p in zip(titles, pairs, strict=True)))
    return titles


def _check_fid(metrics: Sequence[str], world: int) -> None:
    if set(metrics) == {"fid"}:
        raise ValueError("metrics: expected another metric beside fid, such as l1,fid, got fid alone")
    if world > 1:
        raise ValueError(f"metric 'fid': compares all pairs at once, expected one process, got {world}")


def _write_fid(output: Path, fid: Sequence[FID]) -> None:
    values = [metric.compute() for metric in fid]
    with whole_file(output / "fid.json") as part:
        part.write_text(json.dumps(values) + "\n")


def _read_fid(output: Path, pairs: int) -> tuple[Score, ...]:
    values = zip(PREDICTIONS, json.loads((output / "fid.json").read_text()), strict=True)
    return tuple(Score("fid", who, value, math.nan, math.nan, math.nan, pairs, 0) for who, value in values)
