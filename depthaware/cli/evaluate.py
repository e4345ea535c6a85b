"""`depthaware evaluate`: the paper's metrics of a model on a folder of clips."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .common import add_model, load_model, progress
from .evaluate_check import ABLATIONS, EXTRACTORS, PROTOCOLS, PUBLISHED, TABLES, check

__all__ = ["add", "check", "run"]

if TYPE_CHECKING:
    from ..evaluation import ClipReader, PairList
    from ..evaluation.folder import Report
    from ..evaluation.metric_specs import Extractor

_BASIC = ("ssim", "psnr", "l1")
_FACES = {"landmarks": ("akd",), "identity": ("aed", "csim"), "pose": ("prmse",), "expression": ("expression",)}


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="clips, or folders of frames")
    protocol = f"{', '.join((*PROTOCOLS, *PUBLISHED))}, or a CSV file of pairs (default: that of --table)"
    parser.add_argument("--protocol", metavar="NAME|CSV", help=protocol)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the report; an incomplete one is resumed")
    table = "write the paper's table of that number too, with the measured rows below the printed ones"
    parser.add_argument("--table", type=int, choices=list(TABLES), help=table)
    metrics = (
        "names with commas between them, or all (default: those of --table, or ssim,psnr,l1, and "
        "akd,aed,csim,prmse,expression where dlib is, and aucon with --action-units)"
    )
    parser.add_argument("--metrics", help=metrics)
    csim = (
        "image that CSIM compares with; auto is the driving frame within one video, else the source "
        "(default: auto; with --table the source, as in the paper's section 4.1)"
    )
    parser.add_argument("--csim", choices=["auto", "source", "driving"], help=csim)
    ablate = "attention, depth or both with a comma between: rows of the model with these switched off"
    parser.add_argument("--ablate", type=_ablations, default=(), metavar="PARTS", help=ablate)
    for kind, names in EXTRACTORS.items():
        parser.add_argument(f"--{kind}", choices=names, help=f"library that extracts them (default: {names[0]})")
    parser.add_argument("--split", default="test", help="of manifest.csv, or all (default: %(default)s)")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="take every N-th driving frame")
    parser.add_argument("--limit", type=_positive, metavar="N", help="take N pairs, evenly spread")
    sources = "of cross-identity: how many sources each clip drives (default: %(default)s)"
    parser.add_argument("--sources-per-clip", type=_positive, default=1, metavar="N", help=sources)
    parser.add_argument("--pairs", type=_positive, default=2083, metavar="N", help="of random-* (default: %(default)s)")
    videos = "of random-*: from which the pairs are drawn (default: %(default)s)"
    parser.add_argument("--videos", type=_positive, default=100, metavar="M", help=videos)
    seed = "of cross-identity and random-*: chooses sources, videos and frames (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, help=seed)
    mode = "motion; auto is absolute where source and driving frame are of one video (default: %(default)s)"
    parser.add_argument("--mode", choices=["auto", "relative", "absolute"], default="auto", help=mode)
    fit = "of frames to squares; face crops each clip around its face (default: %(default)s)"
    parser.add_argument("--fit", choices=["crop", "pad", "stretch", "face"], default="crop", help=fit)
    parser.add_argument("--batch-size", type=_positive, default=8, help="pairs at a time (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip or pair that fails")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _ablations(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in ABLATIONS]:
        raise ArgumentTypeError(f"expected {' or '.join(ABLATIONS)}, or both with a comma between, got {unknown[0]!r}")
    return names


def run(args: Namespace) -> str:
    """Evaluate, and return where the report is."""
    from ..evaluation import ClipReader, evaluate_to_folder
    from ..evaluation.paper_tables import read_table

    rank, world = shard = _shard()
    if world > 1 and args.device in (None, "cuda"):
        args.device = _own_device(rank) or args.device
    model = load_model(args)
    reader = ClipReader(args.data, model.image_size, fit=args.fit)
    pair_list, remarks = _pair_list(args, reader)
    metrics, extractors, absent = _metrics(args, device=str(next(model.parameters()).device))
    report = evaluate_to_folder(
        model,
        pair_list,
        reader,
        args.output,
        name=Path(args.weights).name,
        protocol=Path(args.protocol).name,
        metrics=metrics,
        extractors=extractors,
        csim=args.csim,
        ablate=args.ablate,
        table=read_table(args.table) if args.table else None,
        mode=args.mode,
        batch_size=args.batch_size,
        strict=args.strict,
        shard=shard,
        remarks=remarks,
        progress=progress(args.quiet, unit="pairs"),
    )
    return "; ".join([str(report), *absent, *_undefined(args, report)])


def _pair_list(args: Namespace, reader: "ClipReader") -> tuple["PairList", dict[str, object]]:
    """The pairs, and the options that determine them."""
    from ..evaluation import PairList, cross_identity, list_clips, random_pairs, read_pairs, same_identity
    from ..evaluation.pairs import check_videos

    data = Path(args.data)
    has_manifest = (data / "manifest.csv").is_file()
    remarks: dict[str, object] = {"data": data.resolve().name, "limit": args.limit}
    if args.protocol not in PROTOCOLS:
        pair_list = PairList(read_pairs(args.protocol), [], dict(list_clips(data, "all")) if has_manifest else {})
        if args.protocol in PUBLISHED:
            check_videos(pair_list.pairs, reader, args.protocol)
    else:
        clips, across = list_clips(data, args.split), "cross-identity" in args.protocol
        remarks |= {"split": args.split if has_manifest else None}
        if args.protocol.startswith("random"):
            drawn = {"pairs": args.pairs, "videos": args.videos, "seed": args.seed}
            pair_list = random_pairs(reader, clips, cross_identity=across, **drawn)
            remarks |= {"drawn": args.pairs, "videos": args.videos, "seed": args.seed}  # "pairs" is their hash
        elif across:
            chosen = {"every": args.every, "sources_per_clip": args.sources_per_clip, "seed": args.seed}
            pair_list, remarks = cross_identity(reader, clips, **chosen), remarks | chosen
        else:
            pair_list, remarks = same_identity(reader, clips, every=args.every), remarks | {"every": args.every}
    pairs = pair_list.pairs
    if not pairs:
        raise ValueError(f"data {args.data!r}: no clip gives a pair: {pair_list.failures[0].reason}")
    count = min(args.limit or len(pairs), len(pairs))
    return pair_list._replace(pairs=[pairs[i * len(pairs) // count] for i in range(count)]), remarks


def _metrics(args: Namespace, device: str) -> tuple[Sequence[str], dict[str, "Extractor"], list[str]]:
    """Names of the metrics, their extractors, and the metrics left out because a library is missing."""
    from .. import extractors
    from ..evaluation import EXPRESSION, METRICS

    def load(kind: str) -> "Extractor":
        return extractors.load(kind, getattr(args, kind.replace("-", "_")), device)

    def expand(names: Sequence[str]) -> list[str]:
        return [part for name in names for part in (EXPRESSION if name == "expression" else [name])]

    if args.metrics:
        names = expand([*METRICS, "fid"] if args.metrics == "all" else args.metrics.split(","))
        if unknown := [name for name in names if name not in (*METRICS, "fid")]:
            known = ", ".join(name for name in METRICS if name not in EXPRESSION)
            raise ValueError(f"--metrics: expected all, or some of {known}, expression, fid, got {unknown[0]!r}")
        kinds = {METRICS[name].kind for name in names if name in METRICS}
        return names, {kind: load(kind) for kind in EXTRACTORS if kind in kinds}, []
    names, found, absent = list(_BASIC), {}, []
    wanted = _FACES | ({"action-units": ("aucon",)} if args.action_units else {})  # slow, so only on request
    for kind, needing in wanted.items():
        try:
            found[kind] = load(kind)
            names += expand(needing)
        except ImportError as error:
            if getattr(args, kind.replace("-", "_")) is not None:
                raise
            absent.append(f"without {', '.join(needing)} ({error})")
    return names, found, absent


def _undefined(args: Namespace, report: "Report") -> list[str]:
    """Metrics that were asked for, and that no pair can have."""
    from ..evaluation import METRICS

    have = {score.metric for score in report.summary.scores} if report.summary else set(METRICS)
    asked = args.metrics.split(",") if args.metrics and args.metrics != "all" else []
    missing = [name for name in asked if name not in have and name in METRICS and METRICS[name].needs_truth]
    return [f"without {', '.join(missing)} (between persons there is no true image to compare with)"] if missing else []


def _shard() -> tuple[int, int]:
    """Rank and number of processes, as set by torchrun."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK, WORLD_SIZE: expected the number of a process, and of all of them, got {rank}, {world}")
    return int(rank), int(world)


def _own_device(rank: int) -> str | None:
    """A GPU for each process of a machine."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % count}" if count else None
