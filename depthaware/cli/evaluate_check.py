"""Checks of `depthaware evaluate` without PyTorch, so that a mistake shows at once."""

import json
from argparse import Namespace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from .common import check_input, check_weights

# What the package knows too, in modules that import PyTorch; a test compares. The default of each kind comes first.
PROTOCOLS = ("same-identity", "cross-identity", "random-same-identity", "random-cross-identity")
PUBLISHED = (
    "voxceleb1-same-identity",
    "voxceleb1-cross-identity",
    "voxceleb1-cross-identity-best-frame",
    "celebv-cross-identity",
)
EXTRACTORS = {
    "landmarks": ("dlib", "dlib-mean", "face-alignment"),
    "identity": ("dlib", "facenet", "insightface"),
    "pose": ("dlib", "face-alignment", "6drepnet"),
    "expression": ("dlib-mean", "dlib", "face-alignment"),
    "action-units": ("py-feat",),
}
KINDS = {"csim": "identity", "aed": "identity", "akd": "landmarks", "prmse": "pose", "aucon": "action-units"}
ABLATIONS = ("attention", "depth")
TABLES = {1: PUBLISHED[0], 2: PUBLISHED[0], 3: PUBLISHED[3], 4: PUBLISHED[3]}  # the paper's pairs
_PACKAGES = {"dlib": "dlib", "dlib-mean": "dlib", "py-feat": "feat"}  # of the defaults
_INSTALL = {"dlib": '"depthaware[eval]"', "feat": '"py-feat>=2" (its weights are downloaded at first use)'}


def check(args: Namespace) -> None:
    """Complete the options by those of the table, and refuse what cannot work, without PyTorch."""
    if args.table:
        _check_table(args)
    if args.protocol is None:
        raise ValueError(f"--protocol: expected {', '.join((*PROTOCOLS, *PUBLISHED))}, a CSV file or --table, got none")
    args.csim = args.csim or "auto"
    if args.protocol.lower().endswith(".csv"):
        check_input(args.protocol)
    elif args.protocol not in (*PROTOCOLS, *PUBLISHED) and not Path(args.protocol).is_file():
        expected = f"{', '.join((*PROTOCOLS, *PUBLISHED))} or a CSV file of pairs"
        raise ValueError(f"--protocol: expected {expected}, got {args.protocol!r}")
    if not Path(args.data).is_dir():
        raise ValueError(f"data {args.data!r}: expected a folder with clips or folders of frames")
    if Path(args.output).is_file():
        raise ValueError(f"output {args.output!r}: is a file, expected a folder")
    check_weights(args)


def _check_table(args: Namespace) -> None:
    """Take over protocol, metrics and CSIM of a table of the paper, and refuse a missing extractor."""
    table = f"--table {args.table}"
    args.protocol, args.csim = args.protocol or TABLES[args.table], args.csim or "source"
    kind = "same-identity" if "same" in TABLES[args.table] else "cross-identity"
    if args.protocol in (*PROTOCOLS, *PUBLISHED) and kind not in args.protocol:
        raise ValueError(f"{table}: is of {kind} reenactment, expected such a protocol, got {args.protocol}")
    tables = json.loads((files("depthaware") / "assets" / "tables.json").read_text(encoding="utf-8"))
    names = [column.lower() for column in tables[str(args.table)]["columns"]]
    chosen = args.metrics.split(",") if args.metrics else names
    if chosen != ["all"] and not set(chosen) & set(names):
        raise ValueError(f"{table}: expected some of its columns {','.join(names)} in --metrics, got {args.metrics}")
    for name in (name for name in chosen if name in KINDS):
        extractor = getattr(args, KINDS[name].replace("-", "_")) or EXTRACTORS[KINDS[name]][0]
        package = _PACKAGES.get(extractor)
        if package and find_spec(package) is None:
            others = ",".join(other for other in chosen if KINDS.get(other) != KINDS[name])
            others = f"; --metrics {others} leaves its column empty" if others else ""
            raise ImportError(
                f"{table}: {name.upper()} needs {KINDS[name]} by {extractor}, which is not installed: pip install "
                f"{_INSTALL[package]}{others}"
            )
    args.metrics = args.metrics or ",".join(names)
