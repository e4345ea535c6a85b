"""`depthaware animate`: animate a portrait with a driving video."""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from ..media.signatures import found_in
from .common import (
    add_fps,
    add_model,
    check_input,
    check_source,
    check_video,
    check_weights,
    load_model,
    progress,
    read_media,
)

if TYPE_CHECKING:
    from ..dagan import DaGAN
    from ..inference.optimization import OptimizedDaGAN
    from ..inference.options import SupportsAnimation
    from ..inference.template import MotionTemplate
    from ..media.image import Image
    from ..media.video import Video

_MEDIA = files("depthaware") / "assets"
_OUTPUT = "animation.mp4"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("--source", default=str(_MEDIA / "portrait.png"), help="portrait (default: a bundled one)")
    driving = "video, frames ('frames/*.png'), .safetensors of --save-motion, or an image (default: a bundled video)"
    parser.add_argument("--driving", default=str(_MEDIA / "driving.mp4"), help=driving)
    parser.add_argument("--output", default=_OUTPUT, help="the mp4 to write (default: %(default)s)")
    parser.add_argument("--mode", choices=["relative", "absolute"], default="relative", help="(default: %(default)s)")
    parser.add_argument("--no-adaptive-scale", action="store_true", help="do not scale motion by the size of the faces")
    initial = "driving frame with the pose of the source: auto is the first with a good face (default: %(default)s)"
    parser.add_argument(
        "--initial-frame", type=_index("auto", "best"), default="auto", metavar="auto|best|N", help=initial
    )
    fit = "face crops both around the face, the others look for none (default: %(default)s)"
    parser.add_argument("--fit", choices=["face", "crop", "pad", "stretch"], default="face", help=fit)
    face = "faces of the source that move, N from left to right, from 0 (default: %(default)s)"
    parser.add_argument("--face", type=_index("largest", "all"), default="largest", metavar="largest|all|N", help=face)
    parser.add_argument("--follow", action="store_true", help="let the crop of the driving video follow the head")
    parser.add_argument("--no-paste", action="store_true", help="write the generated square alone")
    size = "longer side of the output at most, in pixels (default: %(default)s)"
    parser.add_argument("--max-size", type=int, default=1920, metavar="N", help=size)
    parser.add_argument("--no-scenes", action="store_true", help="look for no cuts in the driving video")
    parser.add_argument("--smooth", action="store_true", help="smooth the motion over time")
    strength = "factor of all motion, 0 to 3 (default: %(default)s)"
    parser.add_argument("--strength", type=float, default=1.0, metavar="X", help=strength)
    head = "factor of the motion of the head alone, 0 to 3 (default: %(default)s)"
    parser.add_argument("--head", type=float, default=1.0, metavar="X", help=head)
    expression = "factor of the expression alone, 0 to 3 (default: %(default)s)"
    parser.add_argument("--expression", type=float, default=1.0, metavar="X", help=expression)
    parser.add_argument("--freeze-background", action="store_true", help="keep the background of the source at rest")
    dtype = "compute dtype of the networks (default: bfloat16 where the device has it natively, else float32)"
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help=dtype)
    gain = "compile the network first, which takes minutes; seldom pays on a CPU, see the benchmarks"
    parser.add_argument("--compile", action="store_true", help=gain)
    backend = "onnxruntime runs a folder made by `depthaware export`: --weights FOLDER (default: %(default)s)"
    parser.add_argument("--backend", choices=["torch", "onnxruntime"], default="torch", help=backend)
    parser.add_argument("--batch-size", type=int, default=8, help="frames at a time (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="show source, driving frame and result side by side")
    parser.add_argument("--save-depth", metavar="MP4", help="also write the disparity of the result")
    motion = "also write the motion, which as --driving spares reading the video again"
    parser.add_argument("--save-motion", metavar="SAFETENSORS", help=motion)
    parser.add_argument("--no-audio", action="store_true", help="leave out the sound of the driving video")


def _index(*names: str) -> Callable[[str], int | str]:
    def parse(text: str) -> int | str:
        if text not in names and not text.isdecimal():
            raise ArgumentTypeError(f"expected {', '.join(names)} or a number from 0, got {text!r}")
        return text if text in names else int(text)

    return parse


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    check_input(args.driving)
    still = _is_still(args.driving)
    if still and args.output == _OUTPUT:
        args.output = "animation.png"
    check_output(args.output, FIGURE_SUFFIXES if still else (".mp4",), (args.source, args.driving))
    _check_motion(args, still)
    if args.save_depth:
        check_output(args.save_depth, (".mp4",), (args.driving, args.output))
    for name in ("strength", "head", "expression"):
        if not 0 <= getattr(args, name) <= 3:
            raise ValueError(f"--{name}: expected 0 to 3, got {getattr(args, name)}")
    for name in ("batch_size", "max_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(args, name)}")
    check_source(args.source)
    check_video(args.driving)
    if args.backend == "torch":
        check_weights(args)
        return
    if args.device not in (None, "cpu"):
        raise ValueError(f"--device {args.device}: expected cpu, on which onnxruntime works here")
    if args.compile or args.dtype not in (None, "float32"):
        raise ValueError("--backend onnxruntime: runs what was exported, expected neither --dtype nor --compile")


def _is_still(path: str) -> bool:
    if not Path(path).is_file() or not found_in(path).endswith("image"):
        return False
    from ..media.still import is_still

    return is_still(path)


def _check_motion(args: Namespace, still: bool) -> None:
    template = args.driving.lower().endswith(".safetensors")
    if args.save_motion:
        if still or template:
            found = "an image" if still else "a motion template already"
            raise ValueError(f"--save-motion: expected a driving video, got {found}")
        check_output(args.save_motion, (".safetensors",), (args.driving, args.output))
    if args.compare and template:
        raise ValueError("--compare: expected a driving video, got a motion template, which has no images")
    if still and (args.compare or args.save_depth):
        raise ValueError("--compare, --save-depth: expected a driving video, got an image")


def _load(args: Namespace, frames: int) -> "SupportsAnimation":
    if args.backend == "torch":
        return _fast(load_model(args), args, frames)
    from ..export.runtimes import ExportedDaGAN

    return ExportedDaGAN(args.weights)


def _fast(model: "DaGAN", args: Namespace, frames: int) -> "OptimizedDaGAN":
    import torch

    from ..inference.optimization import best_dtype, optimize

    device = next(model.parameters()).device
    dtype = getattr(torch, args.dtype) if args.dtype else best_dtype(device)
    fast = optimize(model, dtype=dtype, compile=args.compile)
    if args.compile:
        _warm_up(fast, min(args.batch_size, frames), args.quiet)
    return fast


def _warm_up(model: "OptimizedDaGAN", batch_size: int, quiet: bool) -> None:
    import torch

    start = time.monotonic()
    images = torch.rand(batch_size, 3, model.image_size, model.image_size, device=next(model.parameters()).device)
    try:
        with torch.inference_mode():
            for _ in range(3):  # a CUDA graph is recorded in the second
                model.drive(model.encode_source(images[:1]), model.detect_keypoints(images))
    except RuntimeError as error:
        if type(error).__name__ != "InductorError":
            raise
        raise ValueError(f"--compile: {str(error).splitlines()[0]}") from error
    if not quiet:
        print(f"compiled in {time.monotonic() - start:.0f} s", file=sys.stderr)


def _read_driving(args: Namespace) -> "Image | Video | MotionTemplate":
    from ..inference import MotionTemplate

    if args.driving.lower().endswith(".safetensors"):
        return MotionTemplate.load(args.driving)
    return read_media(args.driving, args.fps, strict=args.strict)


def _options(args: Namespace) -> dict[str, Any]:
    return dict(
        mode=args.mode,
        adaptive_scale=not args.no_adaptive_scale,
        initial_frame=args.initial_frame,
        fit=args.fit,
        batch_size=args.batch_size,
        face=args.face,
        follow=args.follow,
        paste=not args.no_paste,
        max_size=args.max_size,
        scenes=not args.no_scenes,
        smooth=args.smooth,
        strength=args.strength,
        head=args.head,
        expression=args.expression,
        freeze_background=args.freeze_background,
    )


def run(args: Namespace) -> str:
    """Animate, and describe what was written."""
    from torch.compiler import set_stance

    from ..inference import AnimateOptions, MotionTemplate, animate_to_file, animate_to_image, record_motion
    from ..media.image import read_image
    from ..media.video import Video

    source, driving = read_image(args.source), _read_driving(args)
    model, options = _load(args, getattr(driving, "frames", 1)), _options(args)
    if not isinstance(driving, Video | MotionTemplate):
        return str(animate_to_image(model, source, driving, args.output, **options))
    if args.save_motion:
        template = record_motion(model, driving, AnimateOptions(**options), progress=progress(args.quiet))
        template.save(args.save_motion)
        if not args.compare:
            driving, options["follow"], options["scenes"] = template, False, True  # settled in it
    with set_stance("eager_on_recompile") if args.compile else nullcontext():  # the last batch may be smaller
        written = animate_to_file(
            model,
            source,
            driving,
            args.output,
            compare=args.compare,
            save_depth=args.save_depth,
            audio=not args.no_audio,
            progress=progress(args.quiet),
            notes=lambda line: None if args.quiet else print(f"depthaware: {line}", file=sys.stderr),
            **options,
        )
    sound = "sound copied" if driving.audio_copied else f"sound {driving.audio} made AAC"
    if args.no_audio or driving.audio is None:
        sound = "without sound"
    done = getattr(model, "done", ())
    return f"{written}, {sound}" + (f"\noptimizations: {', '.join(done)}" if done else "")
