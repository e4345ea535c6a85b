"""`depthaware depth`: estimate the depth of an image or video."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..media.atomic import check_output
from .common import add_fps, add_model, check_input, check_weights, choose_device, progress


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("input", help="image, video, folder of frames or pattern like 'frames/*.png'")
    output = ".png or .ply of an image, .mp4 of a video (default: INPUT_depth.* in the current folder)"
    parser.add_argument("--output", help=output)


def check(args: Namespace) -> None:
    """Refuse paths that cannot work, without PyTorch."""
    check_input(args.input)
    if args.output:
        check_output(args.output, (".png", ".ply", ".mp4"), (args.input,))
    check_weights(args)


def run(args: Namespace) -> str:
    """Estimate depth, and describe what was written."""
    from ..depth import SelfSupDepthNet
    from ..inference.depth_maps import depth_to_file
    from ..media.image import is_still, open_media, read_image
    from ..media.video import read_video

    still = False
    if Path(args.input).is_file():
        with open_media(args.input) as container:
            still = is_still(container)
    name = re.sub(r"[^\w.-]+", "", Path(args.input).stem) or "frames"
    output = args.output or f"{name}_depth.{'png' if still else 'mp4'}"
    check_output(output, (".png", ".ply") if still else (".mp4",), (args.input,))
    media = read_image(args.input) if still else read_video(args.input, rate=args.fps)
    device = choose_device(args)
    depth_net = SelfSupDepthNet.from_pretrained(args.weights, revision=args.revision).to(device)
    return str(depth_to_file(depth_net, media, output, progress=progress(args.quiet)))
