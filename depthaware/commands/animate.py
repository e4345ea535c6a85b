"""`depthaware animate`: a portrait moves like a video."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.resources import files

from .common import add_fps, add_model, load_model, progress

_MEDIA = files("depthaware") / "media"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("--source", default=str(_MEDIA / "portrait.png"), help="portrait (default: a bundled one)")
    driving = "video, folder of frames or pattern like 'frames/*.png' (default: a bundled one)"
    parser.add_argument("--driving", default=str(_MEDIA / "driving.mp4"), help=driving)
    parser.add_argument("--output", default="animation.mp4", help="the mp4 to write (default: %(default)s)")
    parser.add_argument("--mode", choices=["relative", "absolute"], default="relative", help="(default: %(default)s)")
    parser.add_argument("--no-adaptive-scale", action="store_true", help="do not scale motion by the size of the faces")
    initial = "driving frame that poses like the source (default: %(default)s)"
    parser.add_argument("--initial-frame", type=_index, default=0, metavar="N|best", help=initial)
    parser.add_argument("--fit", choices=["crop", "pad", "stretch"], default="crop", help="(default: %(default)s)")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--batch-size", type=int, default=8, help="frames at a time (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="show source, driver and result side by side")
    parser.add_argument("--save-depth", metavar="MP4", help="also write the disparity of the result")
    parser.add_argument("--no-audio", action="store_true", help="leave the driver's sound out")


def _index(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise ArgumentTypeError(f"expected the number of a frame, from 0, or best, got {text!r}")
    return text if text == "best" else int(text)


def run(args: Namespace) -> str:
    """Animate, and say what was written."""
    import torch

    from ..animation import animate_to_file
    from ..audio import COPIED
    from ..image import read_image
    from ..output import check_output
    from ..video import read_video

    check_output(args.output, (".mp4",), (args.source, args.driving))
    source, driving = read_image(args.source), read_video(args.driving, rate=args.fps)
    written = animate_to_file(
        load_model(args),
        source,
        driving,
        args.output,
        compare=args.compare,
        save_depth=args.save_depth,
        audio=not args.no_audio,
        progress=progress(args.quiet),
        mode=args.mode,
        adaptive_scale=not args.no_adaptive_scale,
        initial_frame=args.initial_frame,
        fit=args.fit,
        batch_size=args.batch_size,
        dtype=getattr(torch, args.dtype),
    )
    if args.no_audio or driving.audio is None:
        return f"{written}, without sound"
    return f"{written}, sound " + ("copied" if driving.audio in COPIED else f"{driving.audio} made AAC")
