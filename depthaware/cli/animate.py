"""`depthaware animate`: animate a portrait with a driving video."""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.atomic import check_output, check_video_output
from ..media.formats import SILENT
from .common import (
    add_encoding,
    add_fps,
    add_model,
    check_input,
    check_source,
    check_video,
    check_weights,
    load_model,
    progress,
)

if TYPE_CHECKING:
    from ..dagan import DaGAN
    from ..inference.optimization import OptimizedDaGAN
    from ..inference.options import SupportsAnimation
    from ..media.video import Video

_MEDIA = files("depthaware") / "assets"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("--source", default=str(_MEDIA / "portrait.png"), help="portrait (default: a bundled one)")
    driving = "video, folder of frames or pattern like 'frames/*.png' (default: a bundled one)"
    parser.add_argument("--driving", default=str(_MEDIA / "driving.mp4"), help=driving)
    output = "video, .mp4 .mov .webm .gif .webp, or images frames/%%04d.png (default: %(default)s)"
    parser.add_argument("--output", default="animation.mp4", help=output)
    add_encoding(parser)
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
    dtype = "compute dtype of the networks (default: bfloat16 where the device has it natively, else float32)"
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help=dtype)
    gain = "compile the network first, which takes minutes; seldom pays on a CPU, see the benchmarks"
    parser.add_argument("--compile", action="store_true", help=gain)
    backend = "onnxruntime runs a folder made by `depthaware export`: --weights FOLDER (default: %(default)s)"
    parser.add_argument("--backend", choices=["torch", "onnxruntime"], default="torch", help=backend)
    parser.add_argument("--batch-size", type=int, default=8, help="frames at a time (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="show source, driving frame and result side by side")
    parser.add_argument("--save-depth", metavar="MP4", help="also write the disparity of the result")
    audio = "sound of the result: driving, source, none or a file (default: driving)"
    parser.add_argument("--audio", metavar="driving|source|none|FILE", help=audio)


def _index(*names: str) -> Callable[[str], int | str]:
    def parse(text: str) -> int | str:
        if text not in names and not text.isdecimal():
            raise ArgumentTypeError(f"expected {', '.join(names)} or a number from 0, got {text!r}")
        return text if text in names else int(text)

    return parse


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    check_video_output(args.output, (args.source, args.driving), args.codec, args.quality)
    _check_audio(args)
    if args.save_depth:
        check_output(args.save_depth, (".mp4",), (args.driving, args.output))
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


def _check_audio(args: Namespace) -> None:
    if args.audio in (None, "none"):
        return
    if Path(args.output).suffix.lower() in SILENT:
        raise ValueError(f"--audio {args.audio}: expected none, {args.output} can have no sound")
    if args.audio not in ("driving", "source"):
        check_input(args.audio)


def _audio(args: Namespace, driving: "Video") -> tuple[bool | str, str]:
    """Choose the sound of the output, and say what becomes of it."""
    from ..media.audio import sound_in

    suffix = Path(args.output).suffix.lower()
    if args.audio == "none" or suffix in SILENT:
        return False, "without sound"
    if args.audio in (None, "driving"):
        return True, sound_in(args.driving, suffix) if driving.audio else "without sound"
    audio = args.source if args.audio == "source" else args.audio
    return audio, sound_in(audio, suffix)


def _load(args: Namespace, frames: int) -> "SupportsAnimation":
    if args.backend == "torch":
        return _fast(load_model(args), args, frames)
    from ..export.runtimes import ExportedDaGAN

    model = ExportedDaGAN(args.weights)
    if model.format != "onnx":
        raise ValueError(f"--weights {args.weights}: expected an export in the format onnx, got {model.format}")
    return model


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


def run(args: Namespace) -> str:
    """Animate, and describe what was written."""
    from torch.compiler import set_stance

    from ..inference import animate_to_file
    from ..media.image import read_image
    from ..media.video import read_video

    source, driving = read_image(args.source), read_video(args.driving, rate=args.fps, strict=args.strict)
    audio, sound = _audio(args, driving)
    model = _load(args, driving.frames)
    with set_stance("eager_on_recompile") if args.compile else nullcontext():  # the last batch may be smaller
        written = animate_to_file(
            model,
            source,
            driving,
            args.output,
            compare=args.compare,
            save_depth=args.save_depth,
            audio=audio,
            codec=args.codec,
            quality=args.quality,
            size=args.size,
            progress=progress(args.quiet),
            notes=lambda line: None if args.quiet else print(f"depthaware: {line}", file=sys.stderr),
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
        )
    done = getattr(model, "done", ())
    return f"{written}, {sound}" + (f"\noptimizations: {', '.join(done)}" if done else "")
