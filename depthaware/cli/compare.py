"""`depthaware compare`: models side by side, on a sheet or in a video."""

import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from ..pretrained.locate import find_local
from .common import add_device, add_fps, check_input, choose_device, local_config, progress, read_media

if TYPE_CHECKING:
    from ..inference.options import SupportsAnimation

_MEDIA = files("depthaware") / "assets"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    weights = "bundled names, folders (retrofits too) or Hub ids; NAME=WEIGHTS sets the caption"
    parser.add_argument("--weights", nargs="+", default=["dagan-tiny"], metavar="[NAME=]WEIGHTS", help=weights)
    add_device(parser)
    add_fps(parser)
    source = "portraits (default: a bundled one)"
    parser.add_argument("--source", nargs="+", default=[str(_MEDIA / "portrait.png")], metavar="IMAGE", help=source)
    driving = "one for all portraits, or one for each (default: a bundled video)"
    parser.add_argument("--driving", nargs="+", default=[str(_MEDIA / "driving.mp4")], metavar="MEDIA", help=driving)
    parser.add_argument("--all-pairs", action="store_true", help="drive every portrait with every image or video")
    frames = "of each driving video, a row for each (default: the middle one)"
    parser.add_argument("--frames", type=int, nargs="+", default=[], metavar="N", help=frames)
    mode = "motion under a video; under an image it is absolute (default: %(default)s)"
    parser.add_argument("--mode", choices=["relative", "absolute"], default="relative", help=mode)
    fit = "how images become square: the square around the face, the central one, or whole (default: %(default)s)"
    parser.add_argument("--fit", choices=["face", "crop", "pad", "stretch"], default="face", help=fit)
    parser.add_argument("--depth", action="store_true", help="show the depth of source and driving frame too")
    parser.add_argument("--output", default="comparison.png", help=".png, .jpg, .webp or .mp4 (default: %(default)s)")
    checkpoint = "checkpoint of the FOMM that retrofits among the weights were made from"
    parser.add_argument("--fomm", metavar="CHECKPOINT", help=checkpoint)
    depth_net = "weights with a depth network of the kind of the retrofits' (default: %(default)s)"
    parser.add_argument("--fomm-depth", default="dagan-tiny", metavar="WEIGHTS", help=depth_net)


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    check_output(args.output, (*FIGURE_SUFFIXES, ".mp4"), (*args.source, *args.driving))
    if wrong := [index for index in args.frames if index < 0]:
        raise ValueError(f"--frames: expected numbers from 0, got {wrong[0]}")
    if args.frames and args.output.lower().endswith(".mp4"):
        raise ValueError("--frames: are for a sheet, expected none for a video")
    _paths(args)
    for path in (*args.source, *args.driving):
        check_input(path)
    sizes = _image_sizes(args)
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"--weights: expected models of one image size, got {found}")
    find_local(args.fomm_depth)
    if args.fomm:
        check_input(args.fomm)
    retrofits = [weights for weights in named(args.weights).values() if "family" in local_config(weights)]
    if retrofits and not args.fomm:
        raise ValueError(f"weights {retrofits[0]!r}: are a retrofit, expected --fomm CHECKPOINT that it was made from")


def named(weights: Sequence[str]) -> dict[str, str]:
    """Name each of the weights: NAME of NAME=WEIGHTS, or the folder, or the one above a folder called weights."""
    found: dict[str, str] = {}
    for text in weights:
        name, sign, place = text.partition("=")
        if not sign or Path(text).exists():
            folder = Path(text)
            name, place = (folder.parent if folder.name == "weights" else folder).name or text, text
        if not name:
            raise ValueError(f"--weights {text}: expected NAME=WEIGHTS, got no name")
        if name in found:
            raise ValueError(f"--weights: {found[name]} and {place} are both called {name!r}, expected NAME=WEIGHTS")
        found[name] = place
    return found


def _image_sizes(args: Namespace) -> dict[str, int]:
    """Image sizes of local weights; retrofits have none, and take that of the others."""
    configs = {name: local_config(weights) for name, weights in named(args.weights).items()}
    return {
        name: options.get("image_size", 256) for name, options in configs.items() if options and "family" not in options
    }


def _paths(args: Namespace) -> list[tuple[str, str]]:
    """Pairs of source and driving media."""
    source, driving = args.source, args.driving
    if args.all_pairs:
        return list(product(source, driving))
    count = max(len(source), len(driving))
    if {len(source), len(driving)} - {1, count}:
        raise ValueError(
            f"--source, --driving: expected as many of both, one of either, or --all-pairs, got {len(source)} and "
            f"{len(driving)}"
        )
    return list(zip(source * (count // len(source)), driving * (count // len(driving)), strict=True))


def run(args: Namespace) -> str:
    """Compare, and describe what was written."""
    from ..inference.comparison import Pair, compare, compare_to_file
    from ..media.image import read_image
    from ..media.panels import write_figure

    warnings.filterwarnings("ignore", ".*--initial-frame")  # an option of animate
    pairs = [
        Pair(read_image(source), read_media(driving, args.fps, strict=args.strict)) for source, driving in _paths(args)
    ]
    models = _load(args)
    options: dict[str, Any] = {"mode": args.mode, "fit": args.fit, "depth": args.depth}
    if args.output.lower().endswith(".mp4"):
        written = compare_to_file(models, pairs, args.output, progress=progress(args.quiet), **options)
        return f"{written}, {', '.join(models)}"
    sheet = compare(models, pairs, frames=args.frames, **options)
    write_figure(args.output, sheet)
    return f"{args.output}: {sheet.shape[1]} x {sheet.shape[0]}, {', '.join(models)}"


def _load(args: Namespace) -> dict[str, "SupportsAnimation"]:
    from ..dagan import DaGAN
    from ..depth import SelfSupDepthNet
    from ..retrofit.animation import load_animated_fomm

    device = choose_device(args)
    size = next(iter(_image_sizes(args).values()), 256)

    def load(weights: str) -> Any:
        if "family" not in local_config(weights):
            return DaGAN.from_pretrained(weights)
        depth_net = SelfSupDepthNet.from_pretrained(args.fomm_depth)
        return load_animated_fomm(weights, args.fomm, depth_net, image_size=size)

    return {name: load(weights).to(device) for name, weights in named(args.weights).items()}
