"""`depthaware depth`: estimate the depth of an image or video."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from .common import add_fps, add_model, check_video, check_weights, choose_device, progress, read_media


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("input", help="image, video, folder of frames or pattern like 'frames/*.png'")
    output = (
        "of an image .png, or .ply or .glb for a point cloud, of a video .mp4 (default: INPUT_depth.* or "
        "INPUT_turntable.png in the current folder)"
    )
    parser.add_argument("--output", help=output)
    fit = "whole image, or the square around the face, on which the bundled weights were trained (default: %(default)s)"
    parser.add_argument("--fit", choices=["whole", "face"], default="whole", help=fit)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--compare", action="store_true", help="show the input beside its depth: .png, .jpg, .webp, .mp4")
    turntable = "show the point cloud of an image from several sides: .png, .jpg, .webp, or .mp4 of a moving camera"
    kind.add_argument("--turntable", action="store_true", help=turntable)


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    check_video(args.input)
    if args.output:
        check_output(args.output, (*_suffixes(args, still=True), ".mp4"), (args.input,))
    if args.turntable and args.fit == "face":
        raise ValueError("--turntable: shows the whole image, expected no --fit face")
    check_weights(args)


def _suffixes(args: Namespace, *, still: bool) -> tuple[str, ...]:
    """Possible suffixes of the output."""
    if args.turntable:
        return (*FIGURE_SUFFIXES, ".mp4")
    if not still:
        return (".mp4",)
    return FIGURE_SUFFIXES if args.compare else (".png", ".ply", ".glb")


def run(args: Namespace) -> str:
    """Estimate depth, and describe what was written."""
    from ..depth import SelfSupDepthNet
    from ..inference.depth_maps import depth_to_file
    from ..inference.turntable import turntable_to_file
    from ..media.video import Video

    media = read_media(args.input, args.fps, strict=args.strict)
    still = not isinstance(media, Video)
    name = re.sub(r"[^\w.-]+", "", Path(args.input).stem) or "frames"
    default = f"{name}_{'turntable' if args.turntable else 'depth'}.{'png' if still else 'mp4'}"
    output = args.output or default
    check_output(output, _suffixes(args, still=still), (args.input,))
    show = progress(args.quiet, unit="views" if args.turntable else "frames")
    device = choose_device(args)
    depth_net = SelfSupDepthNet.from_pretrained(args.weights, revision=args.revision).to(device)
    if not args.turntable:
        return str(depth_to_file(depth_net, media, output, compare=args.compare, fit=args.fit, progress=show))
    if isinstance(media, Video):
        raise ValueError(f"--turntable: expected an image, {args.input} is a video")
    return str(turntable_to_file(depth_net, media, output, progress=show))
