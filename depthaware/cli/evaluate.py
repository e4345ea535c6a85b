"""`depthaware evaluate`: the paper's metrics of a model on a folder of clips."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .common import add_model, check_input, check_weights, load_model, progress

if TYPE_CHECKING:
    from ..evaluation import ClipReader, PairList
    from ..evaluation.metric_specs import Extractor

_KINDS = ("landmarks", "identity", "pose", "action-units")
_BASIC = ("ssim", "psnr", "l1")
_FACES = {"landmarks": ("akd",), "identity": ("aed", "csim"), "pose": ("prmse",)}


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="clips, or folders of frames")
    protocol = "same-identity, cross-identity, a CSV file of pairs, or a published list, see the docs"
    parser.add_argument("--protocol", required=True, metavar="NAME|CSV", help=protocol)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the report; an incomplete one is resumed")
    metrics = (
        "names with commas between them, or all (default: ssim,psnr,l1, and akd,aed,csim,prmse where dlib is, "
        "and aucon with --action-units)"
    )
    parser.add_argument("--metrics", help=metrics)
    for kind in _KINDS:
        parser.add_argument(f"--{kind}", metavar="NAME", help="library that extracts them from faces")
    parser.add_argument("--split", default="test", help="of manifest.csv, or all (default: %(default)s)")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="take every N-th driving frame")
    parser.add_argument("--limit", type=_positive, metavar="N", help="take N pairs, evenly spread")
    sources = "of cross-identity: how many sources each clip drives (default: %(default)s)"
    parser.add_argument("--sources-per-clip", type=_positive, default=1, metavar="N", help=sources)
    parser.add_argument("--seed", type=int, default=0, help="of cross-identity: chooses them (default: %(default)s)")
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


def check(args: Namespace) -> None:
    """Refuse paths that cannot work, without PyTorch."""
    if args.protocol.lower().endswith(".csv"):
        check_input(args.protocol)
    if not Path(args.data).is_dir():
        raise ValueError(f"data {args.data!r}: expected a folder with clips or folders of frames")
    if Path(args.output).is_file():
        raise ValueError(f"output {args.output!r}: is a file, expected a folder")
    check_weights(args)


def run(args: Namespace) -> str:
    """Evaluate, and return where the report is."""
    from ..evaluation import ClipReader, evaluate_to_folder

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
        mode=args.mode,
        batch_size=args.batch_size,
        strict=args.strict,
        shard=shard,
        remarks=remarks,
        progress=progress(args.quiet, unit="pairs"),
    )
    return "; ".join([str(report), *absent])


def _pair_list(args: Namespace, reader: "ClipReader") -> tuple["PairList", dict[str, object]]:
    """The pairs, and the options that determine them."""
    from ..evaluation import PairList, cross_identity, list_clips, read_pairs, same_identity

    data = Path(args.data)
    remarks: dict[str, object] = {"data": data.resolve().name, "limit": args.limit}
    if args.protocol not in ("same-identity", "cross-identity"):
        pair_list = PairList(read_pairs(args.protocol), [])
    else:
        clips = list_clips(data, args.split)
        remarks |= {"split": args.split if (data / "manifest.csv").is_file() else None, "every": args.every}
        if args.protocol == "same-identity":
            pair_list = same_identity(reader, clips, every=args.every)
        else:
            chosen = {"sources_per_clip": args.sources_per_clip, "seed": args.seed}
            pair_list, remarks = cross_identity(reader, clips, every=args.every, **chosen), remarks | chosen
    pairs = pair_list.pairs
    if not pairs:
        raise ValueError(f"data {args.data!r}: no clip gives a pair: {pair_list.failures[0].reason}")
    count = min(args.limit or len(pairs), len(pairs))
    return pair_list._replace(pairs=[pairs[i * len(pairs) // count] for i in range(count)]), remarks


def _metrics(args: Namespace, device: str) -> tuple[Sequence[str], dict[str, "Extractor"], list[str]]:
    """Names of the metrics, their extractors, and the metrics left out because a library is missing."""
    from .. import extractors
    from ..evaluation import METRICS

    def load(kind: str) -> "Extractor":
        return extractors.load(kind, getattr(args, kind.replace("-", "_")), device)

    if args.metrics:
        names = [*METRICS, "fid"] if args.metrics == "all" else args.metrics.split(",")
        kinds = {METRICS[name].kind for name in names if name in METRICS}
        return names, {kind: load(kind) for kind in _KINDS if kind in kinds}, []
    names, found, absent = list(_BASIC), {}, []
    wanted = _FACES | ({"action-units": ("aucon",)} if args.action_units else {})  # slow, so only on request
    for kind, needing in wanted.items():
        try:
            found[kind] = load(kind)
            names += needing
        except ImportError as error:
            if getattr(args, kind.replace("-", "_")) is not None:
                raise
            absent.append(f"without {', '.join(needing)} ({error})")
    return names, found, absent


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
