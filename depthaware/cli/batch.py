"""Many sources under many driving videos: one model, each driving video decoded and searched once."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from glob import glob
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..media.atomic import check_video_output
from ..media.formats import IMAGE_SUFFIXES, OUTPUT_SUFFIXES, VIDEO_SUFFIXES, is_pattern
from ..media.sequence import find_images
from .common import MISTAKES, check_source, check_video, describe, progress, say, telling_memory

if TYPE_CHECKING:
    from ..inference.options import SupportsAnimation
    from ..inference.template import MotionTemplate
    from ..media.video import Video

AT_ONCE = 4  # results, each of which needs memory of its own
_WILD = set("*?[")


class Job(NamedTuple):
    """A source, a driving video and the result."""

    source: str
    driving: str
    output: str


def find_sources(words: Sequence[str]) -> list[str]:
    """Expand folders of images, and patterns of them."""
    found = []
    for word in words:
        many = Path(word).is_dir() or (set(word) & _WILD and not Path(word).exists())
        found += [str(path) for path in find_images(Path(word))] if many else [word]
    return found


def find_drivings(words: Sequence[str]) -> list[str]:
    """Expand folders of videos, and patterns of them; those of images are one video."""
    found = []
    for word in words:
        inside = Path(word, "*") if Path(word).is_dir() else Path(word)
        files = sorted(glob(str(inside))) if set(inside.name) & _WILD and not inside.exists() else []
        images = any(path.lower().endswith(IMAGE_SUFFIXES) for path in files)
        videos = [path for path in files if path.lower().endswith(VIDEO_SUFFIXES)]
        found += videos if videos and not images else [word]
    return found


def plan(args: Namespace) -> list[Job]:
    """Pairs of sources and driving videos with their outputs, in a folder if it is one, else in the one file.

    Raises:
        ValueError: if there are several for one file, or two for one name.
    """
    sources, drivings = find_sources(args.source), find_drivings(args.driving)
    args.folder = _is_folder(args.output, several=len(sources) * len(drivings) > 1)
    if not args.folder:
        if len(sources) * len(drivings) > 1:
            count = f"{len(sources)} sources and {len(drivings)} driving videos"
            raise ValueError(f"output {args.output!r}: is one file for {count}, expected a folder")
        if args.format:
            raise ValueError(f"--format {args.format}: is for a folder of results, {args.output} has its suffix")
        return [Job(sources[0], drivings[0], args.output)]
    jobs: dict[str, Job] = {}
    for driving in drivings:
        for source in sources:
            name = f"{_name(source)}_{_name(driving)}"
            output = str(
                Path(args.output, f"{name}/%04d.png" if args.format == "png" else f"{name}.{args.format or 'mp4'}")
            )
            if output in jobs:
                other = jobs[output]
                raise ValueError(
                    f"output {output!r}: would be of {other.source} under {other.driving} and of {source} under "
                    f"{driving}, expected different names"
                )
            jobs[output] = Job(source, driving, output)
    return list(jobs.values())


def _is_folder(output: str, *, several: bool) -> bool:
    suffix = Path(output).suffix.lower()
    return output.endswith(("/", "\\")) or (suffix not in OUTPUT_SUFFIXES and (several or Path(output).is_dir()))


def _name(path: str) -> str:
    place = Path(path).parent if set(Path(path).name) & {*_WILD, "%"} else Path(path)
    return re.sub(r"[^\w.-]+", "", place.resolve().stem) or "frames"


def check_jobs(args: Namespace) -> None:
    """Plan the results, leave out those that are there, and check the others."""
    jobs = plan(args)
    left = [job for job in jobs if not args.folder or args.overwrite or not _is_there(job.output)]
    args.jobs, args.skipped = left, len(jobs) - len(left)
    for job in left:
        check_video_output(job.output, (job.source, job.driving), args.codec, args.quality)
    if not args.folder:  # in a folder, what cannot be read is one line among the results
        check_source(jobs[0].source)
        check_video(jobs[0].driving)


def _is_there(output: str) -> bool:
    with suppress(ValueError):
        return bool(find_images(Path(output))) if is_pattern(output) else Path(output).exists()
    return False


def run_jobs(
    args: Namespace,
    model: "SupportsAnimation",
    options: dict[str, Any],
    encoding: dict[str, Any],
    read_driving: Callable[[str], "Video | MotionTemplate"],
    choose_audio: Callable[[Job, "Video | MotionTemplate"], tuple[bool | str, str]],
) -> str:
    """Make the results; what fails is one line on stderr, and a ValueError at the end tells how many did."""
    from ..inference import animate_to_file
    from ..inference.options import AnimateOptions
    from ..inference.template import MotionTemplate, record_motion

    settled = options | {"follow": False, "scenes": True}  # by the recorded motion
    show, done, failed = progress(args.quiet, unit="results"), 0, 0

    def prepare(driving: str) -> "tuple[Video | MotionTemplate, Video | MotionTemplate]":
        check_video(driving)
        video = read_driving(driving)
        if args.compare or isinstance(video, MotionTemplate):
            return video, video
        return video, record_motion(model, video, AnimateOptions(**options))

    def make(
        job: Job, video: "Video | MotionTemplate", motion: "Video | MotionTemplate", progress: Callable[..., None]
    ) -> str:
        check_source(job.source)
        audio, sound = choose_audio(job, video)
        chosen = options if motion is video else settled
        made = animate_to_file(
            model, job.source, motion, job.output, audio=audio, progress=progress, **encoding, **chosen
        )
        return f"{made}, {sound}"

    def tell(job: Job, work: Callable[[], str]) -> None:
        nonlocal done, failed
        try:
            with telling_memory():
                made = work()
        except MISTAKES as error:
            failed += 1
            say(f"depthaware: error: {job.output}: {describe(error)}", sys.stderr)
        else:
            if not args.quiet:
                say(made)
        done += 1
        show(done, len(args.jobs))

    show(0, len(args.jobs))
    with _workers(model, 1 if args.compile else len(args.jobs)) as submit:
        for driving, group in groupby(args.jobs, key=lambda job: job.driving):
            jobs = list(group)
            try:
                with telling_memory():
                    video, motion = prepare(driving)
            except MISTAKES as error:
                for job in jobs:
                    tell(job, partial(_raise, error))
                continue
            for job, work in [(job, submit(make, job, video, motion)) for job in jobs]:
                tell(job, work)
    summary = f"{args.output}: {len(args.jobs) - failed} written, {args.skipped} skipped, {failed} failed"
    if failed:
        raise ValueError(summary)
    return summary


def _raise(error: Exception) -> NoReturn:
    raise error


@contextmanager
def _workers(model: "SupportsAnimation", jobs: int) -> Iterator[Callable[..., Callable[[], str]]]:
    """Work on several results at once on a CPU, which share its threads: small networks use several threads badly.

    Yields:
        Starts a call, which gets a `progress` that ends it after an interrupt, and returns what waits for its result.
    """
    import torch

    from ..inference.inputs import device_of

    threads, stopped = torch.get_num_threads(), Event()
    count = min(threads, jobs, AT_ONCE) if device_of(model).type == "cpu" else 1

    def go_on(done: int, total: int) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    def submit(function: Callable[..., str], *args: Any) -> Callable[[], str]:
        future = pool.submit(function, *args, go_on)

        def result() -> str:
            while not wait([future], 0.1).done:  # Windows handles Ctrl-C only between waits
                pass
            return future.result()

        return result

    if count == 1:
        yield lambda function, *args: partial(function, *args, lambda done, total: None)
        return
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads // count,))
    try:
        yield submit
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
