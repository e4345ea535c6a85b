"""Make training clips of raw videos: a square around one face, held for the whole clip, with frequent key frames.

python examples/prepare_clips.py --data RAW --output PREPARED

Stop it whenever you like, add videos whenever you like: the same command goes on, and looks at nothing twice.
"""

import json
import multiprocessing
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Thread

from depthaware.data.prepare.clip_files import Sample, write_clip, write_shards
from depthaware.data.prepare.clip_records import (
    Clip,
    Dropped,
    Record,
    drop,
    forget,
    legible,
    load,
    record_path,
    save,
    stamp_of,
    write_table,
)
from depthaware.data.prepare.face_crops import (
    Crop,
    Span,
    central_face,
    central_square,
    divide,
    face_crop,
    face_finder,
    find_shots,
    find_spans,
)
from depthaware.data.prepare.raw_videos import LAYOUTS, choose_layout, clip_prefix, find_raw, identity_of, split_of
from depthaware.media.atomic import whole_file
from depthaware.media.video import Video, read_video
from depthaware.training.options import run

FREE = ("data", "output", "workers", "shards")  # options that may change when an output is gone on with


@dataclass(frozen=True)
class Options:
    """What is made of what."""

    data: str = "raw"  # folder of videos, or of folders of frames
    output: str = "prepared"
    layout: str = "auto"  # how names tell persons: auto, voxceleb, hdtf, celebv or folders
    cropped: bool = False  # the videos are face crops already: no search for faces
    size: int = 256  # side of the clips
    fps: float = 0.0  # frames a second to pick; 0 keeps them all
    margin: float = 1.8  # side of the square to that of all places of the face
    min_seconds: float = 1.0
    max_seconds: float = 20.0  # longer ones are divided
    min_side: int = 192  # of the square, in pixels of the source
    min_motion: float = 1.0  # mean change of a pixel in a fifth of a second, of 255
    min_overlap: float = 0.3  # of the face with its mean place: when it is less, a new clip begins
    looks: float = 5.0  # for faces, a second
    look_side: int = 480  # shorter side of the picture that is searched: faces from 80 / look_side of it are found
    test_share: float = 0.1  # of the persons
    workers: int = 2  # processes
    shards: float = 0.0  # MB; also pack the clips into WebDataset shards of at most this size


def prepare(source: str, options: Options) -> Record:
    """Make the clips of one source."""
    output = Path(options.output)
    forget(output, source)
    find = central_face if options.cropped else face_finder(options.look_side)
    record = Record(source, stamp_of(Path(options.data, source)))
    identity = identity_of(source, options.layout)
    if identity is None:
        return save(output, drop(record, 0, 0, f"no identity: not named as in {options.layout}"))
    path = Path(options.data, source)
    try:
        video = read_video(path)
        shots, times = find_shots(video, find, options.looks)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
        return save(output, drop(record, 0, 0, f"unreadable: {reason}"))
    spans = [span for shot in shots for span in find_spans(shot, options.min_overlap)]
    try:
        return save(output, cut(record, video, spans, times, identity, options))
    except ValueError as error:  # it was readable a moment ago
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def cut(
    record: Record, video: Video, spans: Sequence[Span], times: Sequence[Fraction], identity: str, options: Options
) -> Record:
    """Write what is good of the spans, in one pass over the video, and note why the rest is not."""
    split, frames, position = split_of(identity, options.test_share), iter(video), 0
    folder = Path(options.output, split, "clips")
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts(spans, video.rate, options):
        start, seconds = (round(float(x), 3) for x in (times[part.first], (part.last - part.first) / video.rate))
        crop, reason = frame_it(part, seconds, video.size, options)
        if crop is None:
            record = drop(record, start, seconds, reason)
            continue
        name = f"{clip_prefix(record.source)}_{len(record.clips):03d}"
        piece = islice(frames, part.first - position, part.last - position)
        done = write_clip(folder / f"{name}.mp4", piece, crop, size=options.size, rate=video.rate, fps=options.fps)
        position = part.last
        if done.motion < options.min_motion:
            (folder / f"{name}.mp4").unlink()
            record = drop(record, start, seconds, "still")
            continue
        seconds = round(float(done.frames / done.rate), 3)
        box = f"{crop.left} {crop.top} {crop.side}"
        clip = Clip(name, "clip", split, identity, done.frames, record.source, start, box, seconds)
        record = record._replace(clips=(*record.clips, clip))
    return record


def parts(spans: Iterable[Span], rate: Fraction, options: Options) -> Iterator[Span]:
    longest = max(1, int(options.max_seconds * rate))
    for span in spans:
        yield from [span] if span.reason else divide(span, longest)


def frame_it(part: Span, seconds: float, size: tuple[int, int], options: Options) -> tuple[Crop | None, str]:
    """The square for a part, or why there is none."""
    if part.reason:
        return None, part.reason
    if seconds < options.min_seconds:
        return None, "too short"
    boxes = [look.faces[0] for look in part.looks]
    crop = central_square(size) if options.cropped else face_crop(boxes, size, options.margin)
    if crop is None:
        return None, "at the edge"
    return (None, "face too small") if crop.side < options.min_side else (crop, "")


def is_done(options: Options, source: str) -> bool:
    path = record_path(Path(options.output), source)
    return path.exists() and load(path).stamp == stamp_of(Path(options.data, source))


def begin(options: Options, sources: Sequence[str]) -> Options:
    """Check the output folder, or make it; returns the options with a layout that stays when videos are added."""
    output, file = Path(options.output), Path(options.output, "options.json")
    if output.resolve().is_relative_to(Path(options.data).resolve()):
        raise ValueError(f"output {options.output!r}: is inside of data, where its clips would be taken for videos")
    if not file.exists() and output.exists() and any(output.iterdir()):
        raise ValueError(f"output {options.output!r}: holds other files, expected an empty folder or an earlier output")
    before = json.loads(file.read_text()) if file.exists() else {}
    if options.layout == "auto":
        options = replace(options, layout=before.get("layout") or choose_layout(sources))
    fixed = {key: value for key, value in asdict(options).items() if key not in FREE}
    for key, value in fixed.items():
        if before and before.get(key) != value:
            flag = "--" + key.replace("_", "-")
            raise ValueError(f"output {options.output!r}: was begun with {flag} {before.get(key)}, now it is {value}")
    (output / ".done").mkdir(parents=True, exist_ok=True)
    for leftover in output.rglob(".*.part"):
        leftover.unlink()
    with whole_file(file) as part:
        part.write_text(json.dumps(fixed, indent=1) + "\n")
    return options


def check(options: Options) -> None:
    """Raise one line on an option that cannot be."""
    known = ("auto", *LAYOUTS)
    rules = (
        ("layout", options.layout in known, f"one of {', '.join(known)}"),
        ("size", options.size >= 32 and options.size % 2 == 0, "an even number from 32 on, as H.264 needs"),
        ("fps", options.fps >= 0, "0 or more"),
        ("margin", options.margin >= 1, "1 or more"),
        ("looks", options.looks > 0, "more than 0"),
        ("look_side", options.look_side >= 80, "80 or more, the smallest face that is found"),
        ("max_seconds", options.max_seconds >= 2 * options.min_seconds, "twice --min-seconds or more"),
        ("min_overlap", 0 <= options.min_overlap < 1, "0 to 1"),
        ("test_share", 0 <= options.test_share <= 1, "0 to 1"),
        ("workers", options.workers >= 1, "1 or more"),
        ("shards", options.shards >= 0, "0 or more megabytes"),
    )
    for name, good, expected in rules:
        if not good:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag}: expected {expected}, got {getattr(options, name)}")


# All of it.


def work(todo: Sequence[str], options: Options) -> Iterator[Record]:
    """Records as they come, made by several processes; alone, it is done right here."""
    if options.workers == 1 or len(todo) < 2:
        yield from (prepare(source, options) for source in todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(options.workers, len(todo)), mp_context=context, initializer=end_with_parent) as pool:
        futures = [pool.submit(prepare, source, options) for source in todo]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BrokenExecutor as error:
            raise ValueError("a worker died, perhaps for want of memory; what is done is kept, so try again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """A worker ends at once, and without a word, on Ctrl-C and when the process that started it was killed."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Thread(target=wait, daemon=True).start()


def write_tables(options: Options, sources: Iterable[str]) -> tuple[list[Clip], list[Dropped]]:
    """Write, and return, the rows of these sources; clips that somebody has deleted are left out."""
    output = Path(options.output)
    records = [load(record_path(output, source)) for source in sources]
    clips = [
        clip
        for record in records
        for clip in record.clips
        if (output / clip.split / "clips" / f"{clip.name}.mp4").exists()
    ]
    dropped = [row for record in records for row in record.dropped]
    write_table(output / "manifest.csv", Clip._fields, clips)
    write_table(output / "dropped.csv", Dropped._fields, dropped)
    return clips, dropped


def finish(options: Options, sources: Sequence[str]) -> None:
    """The tables and shards, from the records of all sources."""
    output = Path(options.output)
    clips, dropped = write_tables(options, sources)
    print(legible("\n".join(summary(clips, dropped, len(sources), options))))
    if not clips:
        reason = next((reason for reason, _ in Counter(row.reason for row in dropped).most_common(1)), "deleted")
        raise ValueError(f"data {options.data!r}: gave no clip; most often: {reason}")
    for split in ("train", "test") if options.shards else ():
        folder = output / split / "clips"
        samples = [
            Sample(folder / f"{clip.name}.mp4", clip.identity, split, clip.frames, clip.source)
            for clip in clips
            if clip.split == split
        ]
        print(f"{split}: {write_shards(output / split / 'shards', samples, options.shards)} shards")


def summary(clips: Sequence[Clip], dropped: Sequence[Dropped], sources: int, options: Options) -> Iterator[str]:
    yield f"{options.output}: {sources} videos, named as in {options.layout}"
    for split in ("train", "test"):
        own = [clip for clip in clips if clip.split == split]
        minutes = sum(clip.seconds for clip in own) / 60
        yield f"{split:8} {len(own)} clips of {len({clip.identity for clip in own})} persons, {minutes:.1f} minutes"
    reasons: dict[str, list[float]] = defaultdict(list)
    for row in dropped:
        reasons[row.reason.partition(":")[0]].append(row.seconds / 60)
    for reason, each in sorted(reasons.items(), key=lambda item: -len(item[1])):
        yield f"dropped  {len(each)} x {reason}, {sum(each):.1f} minutes"


def main(options: Options) -> None:
    check(options)
    sources = find_raw(Path(options.data))
    options = begin(options, sources)
    todo = [source for source in sources if not is_done(options, source)]
    done = sorted(set(sources).difference(todo))
    write_tables(options, done)  # a folder without a manifest, if this is stopped, would be read as one of train clips
    if done:
        print(f"{len(done)} of {len(sources)} videos are done already")
    for count, record in enumerate(work(todo, options), 1):
        good, bad = len(record.clips), len(record.dropped)
        print(legible(f"{count}/{len(todo)} {record.source}: {good} clips, {bad} dropped"), flush=True)
    finish(options, sources)


if __name__ == "__main__":
    run(main, Options, __doc__)
