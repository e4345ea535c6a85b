"""`depthaware convert`: convert a DaGAN or FOMM checkpoint to the format of `from_pretrained`."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

from ..pretrained.downloads import check_checkpoint
from .common import check_input


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="the .pth or .pth.tar file")
    parser.add_argument("--depth-dir", metavar="FOLDER", help="where encoder.pth and depth.pth of a DaGAN are")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="for `--weights FOLDER`")
    sampling = "how its training sampled images (default: no for DaGAN, yes for FOMM)"
    parser.add_argument("--align-corners", action=BooleanOptionalAction, help=sampling)


def check(args: Namespace) -> None:
    """Refuse paths that cannot work, without PyTorch."""
    check_input(args.checkpoint)
    check_checkpoint(args.checkpoint)
    if Path(args.output).is_file():
        raise ValueError(f"output {args.output!r}: is a file, expected a folder")
    if args.depth_dir and not Path(args.depth_dir).is_dir():
        raise ValueError(f"--depth-dir {args.depth_dir}: expected a folder with encoder.pth and depth.pth")


def run(args: Namespace) -> str:
    """Convert, and describe what was written."""
    from ..dagan import DaGAN

    model = DaGAN.from_checkpoint(args.checkpoint, args.depth_dir, align_corners=args.align_corners)
    model.save_pretrained(args.output)
    kind = "FOMM" if model.depth_net is None else f"DaGAN with depth network {model.config['depth_encoder']}"
    return f"{args.output}: converted from {args.checkpoint} ({kind})"
