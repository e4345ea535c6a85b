"""`depthaware live`: a portrait follows the camera."""

import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..media.atomic import check_output
from ..media.devices import input_device
from .animate import _MEDIA
from .common import add_model, check_source, check_video, check_weights, load_model

if TYPE_CHECKING:
    from ..inference.live import LiveView
    from ..media.camera import Camera
    from ..media.screen import Use


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    camera = "number, device, or a video file that is played in real time (default: %(default)s)"
    parser.add_argument("--camera", default="0", help=camera)
    size = "asked of the camera (default: 640x480)"
    parser.add_argument("--camera-size", type=_size, default=(480, 640), metavar="WxH", help=size)
    rate = "frames per second asked of the camera (default: %(default)s)"
    parser.add_argument("--camera-fps", type=int, default=30, metavar="N", help=rate)
    source = "portraits, which the key s changes (default: a bundled one)"
    parser.add_argument("--source", nargs="+", default=[str(_MEDIA / "portrait.png")], help=source)
    parser.add_argument("--display", choices=["window", "none"], default="window", help="(default: %(default)s)")
    parser.add_argument("--record", metavar="MP4", help="also write an mp4")
    virtual = "also send to a camera that other programs see, needs pyvirtualcam"
    parser.add_argument("--virtual-camera", action="store_true", help=virtual)
    parser.add_argument("--mirror", action="store_true", help="move like a mirror image, key m")
    parser.add_argument("--no-paste", action="store_true", help="show the generated square alone, key p")
    parser.add_argument("--follow", action="store_true", help="let the crop of the camera follow the head")
    parser.add_argument("--smooth", action="store_true", help="smooth the motion over time")
    longest = "longer side of the frames at most, in pixels (default: %(default)s)"
    parser.add_argument("--max-size", type=int, default=720, metavar="N", help=longest)
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="stop after so long")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x480, got {text!r}")
    return int(height), int(width)


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    for name, least in (("camera_fps", 1), ("max_size", 1), ("seconds", 0)):
        if not getattr(args, name) >= least:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(args, name)}")
    for source in args.source:
        check_source(source)
    if input_device(args.camera) is None:
        check_video(args.camera)
    if args.record:
        check_output(args.record, (".mp4",), (*args.source, args.camera))
    check_weights(args)


def run(args: Namespace) -> str:
    """Show, and describe what was shown."""
    from ..inference.live import KEYS, run_live
    from ..media.camera import open_camera
    from ..media.screen import open_window

    camera = open_camera(args.camera, size=args.camera_size, rate=args.camera_fps)  # before what takes long
    view = _view(args)
    with ExitStack() as stack:
        show = stack.enter_context(open_window(view.size)) if args.display == "window" else lambda image, title: ""
        also = [stack.enter_context(output) for output in _outputs(args, view, camera)]
        if not args.quiet:
            end = KEYS if args.display == "window" else "Ctrl-C to stop"
            print(f"depthaware: {args.camera} at {float(camera.rate):.4g} fps; {end}", file=sys.stderr)
        report = run_live(view, camera, show, also=also, seconds=args.seconds)
        if not report.frames:
            raise ValueError(report.trouble or f"{args.camera}: ended before a frame was shown")
    if not view.seen:
        warnings.warn(f"{args.camera}: no face was found, the source stayed at rest", stacklevel=2)
    lines = [str(report), *([f"{args.record}: {report.frames} frames"] if args.record else [])]
    if report.trouble:
        raise ValueError("; ".join([report.trouble, *lines]))
    return "\n".join(lines)


def _view(args: Namespace) -> "LiveView":
    from ..inference import AnimateOptions, Animator, optimize
    from ..inference.live import LiveView
    from ..inference.optimization import best_dtype

    model = load_model(args)
    fast = optimize(model, dtype=best_dtype(next(model.parameters()).device))
    options = AnimateOptions(follow=args.follow, smooth=args.smooth, max_size=args.max_size)
    animators = [Animator(fast, source, options) for source in args.source]
    return LiveView(animators, mirror=args.mirror, paste=not args.no_paste)


def _outputs(args: Namespace, view: "LiveView", camera: "Camera") -> "list[AbstractContextManager[Use]]":
    from ..media.screen import open_virtual_camera

    outputs: list[AbstractContextManager[Use]] = []
    if args.virtual_camera:
        outputs.append(open_virtual_camera(view.size, float(camera.rate)))
    if args.record:
        outputs.append(_recording(args.record, view, camera))
    return outputs


@contextmanager
def _recording(path: str, view: "LiveView", camera: "Camera") -> "Iterator[Use]":
    """Write an mp4 in a thread of its own."""
    from ..media.threads import AHEAD, background
    from ..media.video import write_video

    with write_video(path, view.size, camera.rate, camera.time_base) as write, background(write, AHEAD) as write_later:
        yield write_later
