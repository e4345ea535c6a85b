"""`depthaware convert`: a DaGAN or FOMM checkpoint becomes weights in our format."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="the .pth or .pth.tar file")
    parser.add_argument("--depth-dir", metavar="FOLDER", help="where encoder.pth and depth.pth of a DaGAN are")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="for `--weights FOLDER`")
    sampling = "how its training sampled images (default: no for DaGAN, yes for FOMM)"
    parser.add_argument("--align-corners", action=BooleanOptionalAction, help=sampling)


def run(args: Namespace) -> str:
    """Convert, and say what was written."""
    from ..dagan import DaGAN

    model = DaGAN.from_checkpoint(args.checkpoint, args.depth_dir, align_corners=args.align_corners)
    model.save_pretrained(args.output)
    kind = "FOMM" if model.depth_net is None else f"DaGAN with depth network {model.config['depth_encoder']}"
    return f"{args.output}: converted from {args.checkpoint} ({kind})"
