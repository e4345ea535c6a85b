"""`depthaware depth`: estimate the depth of an image or video."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..media.atomic import check_output
from .common import add_fps, add_model, check_video, check_weights, load_model, progress


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("input", help="image, video, folder of frames or pattern like 'frames/*.png'")
    output = ".png or .ply of an image, .mp4 of a video (default: INPUT_depth.* in the current folder)"
    parser.add_argument("--output", help=output)


def check(args: Namespace) -> None:
    """Refuse paths that cannot work, without PyTorch."""
    check_video(args.input)
    if args.output:
        check_output(args.output, (".png", ".ply", ".mp4"), (args.input,))
    check_weights(args)


def run(args: Namespace) -> str:
    """Estimate depth, and describe what was written."""
    from ..inference.depth_maps import depth_to_file
    from ..media.still import is_still, read_image
    from ..media.video import read_video

    still = Path(args.input).is_file() and is_still(args.input)
    name = re.sub(r"[^\w.-]+", "", Path(args.input).stem) or "frames"
    output = args.output or f"{name}_depth.{'png' if still else 'mp4'}"
    check_output(output, (".png", ".ply") if still else (".mp4",), (args.input,))
    media = read_image(args.input) if still else read_video(args.input, rate=args.fps, strict=args.strict)
    return str(depth_to_file(load_model(args), media, output, progress=progress(args.quiet)))
