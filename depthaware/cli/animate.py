"""`depthaware animate`: animate a portrait with a driving video."""

import sys
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES, SILENT
from ..media.signatures import found_in
from .animate_options import add
from .batch import Job, check_jobs, find_sources, run_jobs
from .common import check_input, check_source, progress
from .fast_model import check_backend, load_fast

if TYPE_CHECKING:
    from ..inference.template import MotionTemplate
    from ..media.video import Video

__all__ = ["add", "check", "run"]
_MEDIA = files("depthaware") / "assets"


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    _fill_in(args)
    args.still = len(args.driving) == 1 and _is_still(args.driving[0])
    if args.still:
        _plan_still(args)
    else:
        check_jobs(args)
        _check_audio(args)
    for job in args.jobs:
        _check_motion(args, job.driving)
    if args.save_depth:
        if args.folder:
            raise ValueError("--save-depth: is of one result, expected none for a folder of them")
        check_output(args.save_depth, (".mp4",), (args.jobs[0].driving, args.output))
    for name in ("strength", "head", "expression"):
        if not 0 <= getattr(args, name) <= 3:
            raise ValueError(f"--{name}: expected 0 to 3, got {getattr(args, name)}")
    for name in ("batch_size", "max_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(args, name)}")
    check_backend(args)


def _fill_in(args: Namespace) -> None:
    """Take source, driving video and output from the options or, in this order, from the paths."""
    if len(args.paths) > 3:
        raise ValueError(f"expected SOURCE, DRIVING and OUTPUT, got {len(args.paths)} files; for several use --source")
    for name, path in zip(("source", "driving", "output"), args.paths, strict=False):
        if getattr(args, name) not in (None, args.configured.get(name)):
            raise ValueError(f"{path}: expected no {name.upper()} here besides --{name}")
        setattr(args, name, path if name == "output" else [path])
    args.source = args.source or [str(_MEDIA / "portrait.png")]
    args.driving = args.driving or [str(_MEDIA / "driving.mp4")]
    for word in (*args.source, *args.driving):
        if not word:
            check_input(word)
    args.given_output, args.output = args.output, "animation.mp4" if args.output is None else args.output


def _is_still(path: str) -> bool:
    if not Path(path).is_file() or not found_in(path).endswith("image"):
        return False
    from ..media.still import is_still

    return is_still(path)


def _plan_still(args: Namespace) -> None:
    """Plan the one result of a driving image."""
    if args.compare or args.save_depth:
        raise ValueError("--compare, --save-depth: expected a driving video, got an image")
    sources = find_sources(args.source)
    if len(sources) != 1:
        raise ValueError(f"--driving {args.driving[0]}: is an image, expected one source for it, got {len(sources)}")
    args.output = args.given_output or "animation.png"
    check_output(args.output, FIGURE_SUFFIXES, (sources[0], args.driving[0]))
    check_source(sources[0])
    args.folder, args.jobs = False, [Job(sources[0], args.driving[0], args.output)]


def _check_motion(args: Namespace, driving: str) -> None:
    template = driving.lower().endswith(".safetensors")
    if args.save_motion:
        if args.still or template:
            found = "an image" if args.still else "a motion template already"
            raise ValueError(f"--save-motion: expected a driving video, got {found}")
        if args.folder:
            raise ValueError("--save-motion: is of one driving video, expected none for a folder of results")
        check_output(args.save_motion, (".safetensors",), (driving, args.output))
    if args.compare and template:
        raise ValueError("--compare: expected a driving video, got a motion template, which has no images")


def _check_audio(args: Namespace) -> None:
    if args.audio in (None, "none"):
        return
    for job in args.jobs:
        if Path(job.output).suffix.lower() in SILENT:
            raise ValueError(f"--audio {args.audio}: expected none, {job.output} can have no sound")
    if args.audio not in ("driving", "source"):
        check_input(args.audio)


def _audio(choice: str | None, job: Job, driving: "Video | MotionTemplate") -> tuple[bool | str, str]:
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
    from ..inference import AnimateOptions, animate_to_file, animate_to_image, record_motion
    from ..media.image import read_image

    if args.folder:
        if not args.jobs:
            return f"{args.output}: all {args.skipped} results are there"
        model = load_fast(args, args.batch_size)
        with _eagerly(args):
            read, sound_of = partial(_read_driving, args), partial(_audio, args.audio)
            return run_jobs(args, model, _options(args), _encoding(args), read, sound_of)
    (job,) = args.jobs
    source, options = read_image(job.source), _options(args)
    if args.still:
        image = read_image(job.driving)
        return str(animate_to_image(load_fast(args, 1), source, image, job.output, **options))
    driving = _read_driving(args, job.driving)
    model = load_fast(args, driving.frames)
    audio, sound = _audio(args.audio, job, driving)
    if args.save_motion:
        template = record_motion(model, driving, AnimateOptions(**options), progress=progress(args.quiet))
        template.save(args.save_motion)
        if not args.compare:
            driving, options["follow"], options["scenes"] = template, False, True  # settled in it
    with _eagerly(args):  # the last batch may be smaller
        written = animate_to_file(
            model,
            source,
            driving,
            job.output,
            save_depth=args.save_depth,
            audio=audio,
            progress=progress(args.quiet),
            notes=lambda line: None if args.quiet else print(f"depthaware: {line}", file=sys.stderr),
            **_encoding(args),
            **options,
        )
    done = getattr(model, "done", ())
    return f"{written}, {sound}" + (f"\noptimizations: {', '.join(done)}" if done else "")


def _read_driving(args: Namespace, path: str) -> "Video | MotionTemplate":
    from ..inference import MotionTemplate
    from ..media.video import read_video

    if path.lower().endswith(".safetensors"):
        return MotionTemplate.load(path)
    return read_video(path, rate=args.fps, strict=args.strict)


def _eagerly(args: Namespace) -> AbstractContextManager[Any]:
    """Compile once: the last batch, which may be smaller, is computed as it is."""
    from torch.compiler import set_stance

    return set_stance("eager_on_recompile") if args.compile else nullcontext()


def _encoding(args: Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("compare", "codec", "quality", "size", "mark")}


def _options(args: Namespace) -> dict[str, Any]:
    """Options of the motion, which all results share."""
    return {
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
        "strength": args.strength,
        "head": args.head,
        "expression": args.expression,
        "freeze_background": args.freeze_background,
    }
