"""`depthaware animate`: animate a portrait with a driving video."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.atomic import check_output
from ..media.formats import OUTPUT_SUFFIXES, SILENT
from .batch import Job, check_jobs, run_jobs
from .common import (
    add_encoding,
    add_fps,
    add_model,
    check_input,
    check_weights,
    progress,
)
from .fast_model import load_fast

if TYPE_CHECKING:
    from ..media.video import Video

_MEDIA = files("depthaware") / "assets"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("paths", nargs="*", metavar="FILE", help="SOURCE, DRIVING and OUTPUT, instead of these options")
    source = "portraits, folder or pattern of them (default: a bundled one)"
    parser.add_argument("-s", "--source", nargs="+", metavar="IMAGE", help=source)
    driving = "videos, folder or pattern of them; 'frames/*.png' or a folder of frames is one (default: a bundled one)"
    parser.add_argument("-d", "--driving", nargs="+", metavar="VIDEO", help=driving)
    output = (
        "video, .mp4 .mov .webm .gif .webp, images frames/%%04d.png, or a folder for several results, of which those "
        "that are there are skipped (default: animation.mp4)"
    )
    parser.add_argument("-o", "--output", help=output)
    parser.add_argument("--format", choices=[name[1:] for name in OUTPUT_SUFFIXES], help="in a folder (default: mp4)")
    parser.add_argument("--overwrite", action="store_true", help="do not skip results that are in the folder")
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
    parser.add_argument("--mark", action="store_true", help='write "AI-generated" into the lower left corner')
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
    _fill_in(args)
    check_jobs(args)
    _check_audio(args)
    if args.save_depth:
        if args.folder:
            raise ValueError("--save-depth: is of one result, expected none for a folder of them")
        check_output(args.save_depth, (".mp4",), (args.jobs[0].driving, args.output))
    for name in ("batch_size", "max_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(args, name)}")
    if args.backend == "torch":
        check_weights(args)
        return
    if args.device not in (None, "cpu"):
        raise ValueError(f"--device {args.device}: expected cpu, on which onnxruntime works here")
    if args.compile or args.dtype not in (None, "float32"):
        raise ValueError("--backend onnxruntime: runs what was exported, expected neither --dtype nor --compile")


def _fill_in(args: Namespace) -> None:
    """Take source, driving video and output from the options or, in this order, from the paths."""
    if len(args.paths) > 3:
        raise ValueError(f"expected SOURCE, DRIVING and OUTPUT, got {len(args.paths)} files; for several use --source")
    for name, path in zip(("source", "driving", "output"), args.paths, strict=False):
        if getattr(args, name) is not None:
            raise ValueError(f"{path}: expected no {name.upper()} here besides --{name}")
        setattr(args, name, path if name == "output" else [path])
    args.source = args.source or [str(_MEDIA / "portrait.png")]
    args.driving = args.driving or [str(_MEDIA / "driving.mp4")]
    args.output = "animation.mp4" if args.output is None else args.output


def _check_audio(args: Namespace) -> None:
    if args.audio in (None, "none"):
        return
    for job in args.jobs:
        if Path(job.output).suffix.lower() in SILENT:
            raise ValueError(f"--audio {args.audio}: expected none, {job.output} can have no sound")
    if args.audio not in ("driving", "source"):
        check_input(args.audio)


def _audio(choice: str | None, job: Job, driving: "Video") -> tuple[bool | str, str]:
    """Choose the sound of the output, and say what becomes of it."""
    from ..media.audio import sound_in

    suffix = Path(job.output).suffix.lower()
    if choice == "none" or suffix in SILENT:
        return False, "without sound"
    if choice in (None, "driving"):
        return True, sound_in(job.driving, suffix) if driving.audio else "without sound"
    audio = job.source if choice == "source" else choice
    return audio, sound_in(audio, suffix)


def run(args: Namespace) -> str:
    """Animate, and describe what was written."""
    from ..inference import animate_to_file
    from ..media.image import read_image
    from ..media.video import read_video

    def open_video(path: str) -> "Video":
        return read_video(path, rate=args.fps, strict=args.strict)

    if args.folder:
        if not args.jobs:
            return f"{args.output}: all {args.skipped} results are there"
        model = load_fast(args, args.batch_size)
        with _eagerly(args):
            return run_jobs(args, model, _options(args), open_video, partial(_audio, args.audio))
    (job,) = args.jobs
    source, driving = read_image(job.source), open_video(job.driving)
    audio, sound = _audio(args.audio, job, driving)
    model = load_fast(args, driving.frames)
    with _eagerly(args):
        written = animate_to_file(
            model,
            source,
            driving,
            job.output,
            save_depth=args.save_depth,
            audio=audio,
            progress=progress(args.quiet),
            notes=lambda line: None if args.quiet else print(f"depthaware: {line}", file=sys.stderr),
            **_options(args),
        )
    done = getattr(model, "done", ())
    return f"{written}, {sound}" + (f"\noptimizations: {', '.join(done)}" if done else "")


def _eagerly(args: Namespace) -> AbstractContextManager[Any]:
    """Compile once: the last batch, which may be smaller, is computed as it is."""
    from torch.compiler import set_stance

    return set_stance("eager_on_recompile") if args.compile else nullcontext()


def _options(args: Namespace) -> dict[str, Any]:
    """Options of `animate_to_file` that all results share."""
    return {
        "compare": args.compare,
        "codec": args.codec,
        "quality": args.quality,
        "size": args.size,
        "mark": args.mark,
        "mode": args.mode,
        "adaptive_scale": not args.no_adaptive_scale,
        "initial_frame": args.initial_frame,
        "fit": args.fit,
        "batch_size": args.batch_size,
        "face": args.face,
        "follow": args.follow,
        "paste": not args.no_paste,
        "max_size": args.max_size,
        "scenes": not args.no_scenes,
        "smooth": args.smooth,
    }
