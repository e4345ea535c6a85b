"""The `depthaware` command. torch and av are imported where they are used, so that --help answers at once."""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from .dagan import DaGAN

_MEDIA = files(__package__) / "media"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 after anything that is wrong with the input, 130 after Ctrl-C."""
    try:
        args = _parser().parse_args(argv)
        _import_libraries()
        done = args.run(args)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except OSError as error:
        return _complain(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
    except (ValueError, MemoryError) as error:
        return _complain(f"error: {error or 'out of memory'}")
    except RuntimeError as error:  # PyTorch's only sign of this, on CPU and GPU
        if not re.search("out of memory|allocate memory|not enough memory", str(error)):
            raise
        return _complain("error: out of memory, try a smaller --batch-size or another --device")
    if not args.quiet:
        print(done)
    return 0


def _complain(message: str, code: int = 2) -> int:
    over = "\r\033[K" if sys.stderr.isatty() else ""  # write over the progress bar
    print(f"{over}depthaware:", " ".join(message.split()), file=sys.stderr)
    return code


def _import_libraries() -> None:
    """Import what takes long; NumPy turns a Ctrl-C that comes meanwhile into an ImportError, so it is answered here."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(_complain("interrupted", 130)))
    try:
        from . import animation, depth_map  # noqa: F401
    finally:
        signal.signal(signal.SIGINT, before)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)  # ends in one line, like every other mistake


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("depthaware", description="Depth-aware talking heads: a portrait moves like a video.")
    parser.add_argument("--version", action="version", version=f"depthaware {version('depthaware')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    quiet = _Parser(add_help=False)
    quiet.add_argument("--quiet", action="store_true", help="print errors only")
    model = _Parser(add_help=False, parents=[quiet])
    model.add_argument("--weights", default="dagan-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    model.add_argument("--revision", help="branch, tag or commit of the Hub repository")
    model.add_argument("--device", help="cpu, cuda, cuda:N or mps (default: cuda if there is one, else cpu)")
    model.add_argument("--fps", type=float, default=25, help="of a folder of pictures (default: %(default)s)")
    _add_animate(commands.add_parser("animate", parents=[model], help="let a portrait move like a video"))

    depth = commands.add_parser("depth", parents=[model], help="depth of a picture or video")
    depth.add_argument("input", help="picture, video, folder of frames or pattern like 'frames/*.png'")
    output = ".png or .ply of a picture, .mp4 of a video (default: INPUT_depth.* in the current folder)"
    depth.add_argument("--output", help=output)
    depth.set_defaults(run=_depth)

    convert = commands.add_parser("convert", parents=[quiet], help="turn a DaGAN or FOMM checkpoint into our format")
    convert.add_argument("checkpoint", help="the .pth or .pth.tar file")
    convert.add_argument("--depth-dir", metavar="FOLDER", help="where encoder.pth and depth.pth of a DaGAN are")
    convert.add_argument("--output", metavar="FOLDER", required=True, help="for `--weights FOLDER`")
    sampling = "how its training sampled images (default: no for DaGAN, yes for FOMM)"
    convert.add_argument("--align-corners", action=argparse.BooleanOptionalAction, help=sampling)
    convert.set_defaults(run=_convert)
    return parser


def _add_animate(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=_animate)


def _index(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a frame, from 0, or best, got {text!r}")
    return text if text == "best" else int(text)


def _animate(args: argparse.Namespace) -> str:
    import torch

    from .animation import animate_to_file
    from .audio import COPIED
    from .image import read_image
    from .output import check_output
    from .video import read_video

    check_output(args.output, (".mp4",), (args.source, args.driving))
    source, driving = read_image(args.source), read_video(args.driving, rate=args.fps)
    written = animate_to_file(
        _load(args),
        source,
        driving,
        args.output,
        compare=args.compare,
        save_depth=args.save_depth,
        audio=not args.no_audio,
        progress=_progress(args.quiet),
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


def _depth(args: argparse.Namespace) -> str:
    from .depth_map import depth_to_file
    from .image import is_still, open_media, read_image
    from .output import check_output
    from .video import read_video

    still = False
    if Path(args.input).is_file():
        with open_media(args.input) as container:
            still = is_still(container)
    name = re.sub(r"[^\w.-]+", "", Path(args.input).stem) or "frames"
    output = args.output or f"{name}_depth.{'png' if still else 'mp4'}"
    check_output(output, (".png", ".ply") if still else (".mp4",), (args.input,))
    media = read_image(args.input) if still else read_video(args.input, rate=args.fps)
    return str(depth_to_file(_load(args), media, output, progress=_progress(args.quiet)))


def _convert(args: argparse.Namespace) -> str:
    from .dagan import DaGAN

    model = DaGAN.from_checkpoint(args.checkpoint, args.depth_dir, align_corners=args.align_corners)
    model.save_pretrained(args.output)
    kind = "FOMM" if model.depth_net is None else f"DaGAN with depth network {model.config['depth_encoder']}"
    return f"{args.output}: converted from {args.checkpoint} ({kind})"


def _load(args: argparse.Namespace) -> "DaGAN":
    import torch

    from .dagan import DaGAN

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.empty(0, device=name).device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("PyTorch knows it, this library does not")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name}: not available here, expected cpu, cuda, cuda:N or mps") from error
    return DaGAN.from_pretrained(args.weights, revision=args.revision).to(name)


def _progress(quiet: bool) -> Callable[[int, int], None]:
    """A bar for somebody who watches: log files get none."""
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and not quiet:
            bar, rate = "#" * min(20 * done // total, 20), done / max(time.monotonic() - start, 1e-9)
            end = "\n" if done >= total else ""
            print(f"\r[{bar:20}] {done} of {total} frames, {rate:.1f} frames/s", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
