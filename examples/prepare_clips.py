"""Make training clips from raw videos: one face each, cropped to a square that stays in place, frequent key frames.

    python prepare_clips.py --data RAW --output PREPARED

It can be stopped, and videos can be added, at any time: the same command resumes and processes no video twice.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from depthaware.data import Clips, find_landmarks
from depthaware.data.prepare import (
    BoxDetector,
    Crop,
    DroppedRow,
    ManifestRow,
    Record,
    ShardSample,
    Span,
    central_detector,
    central_square,
    choose_layout,
    divide,
    face_boxes,
    face_crop,
    find_raw,
    find_shots,
    find_spans,
    identity_of,
    map_in_processes,
    split_of,
    write_clip,
    write_shards,
    write_tables,
)
from depthaware.data.prepare.clip_records import (
    clip_path,
    drop,
    forget,
    load,
    printable,
    record_path,
    save,
    stamp_of,
)
from depthaware.data.prepare.raw_videos import clip_prefix
from depthaware.extractors import available
from depthaware.extractors import load as load_extractor
from depthaware.faces import BlazeFaceDetector, DlibFaceDetector
from depthaware.faces.crop import FACTOR
from depthaware.media.atomic import whole_file
from depthaware.media.resume import check_same_options
from depthaware.media.video import Video, read_video
from depthaware.training.options import option, required, run_recipe

# Options that may change when an output is resumed.
FREE = ("data", "output", "workers", "shards", "landmarks", "landmarks_every", "dry_run")


@dataclass(frozen=True)
class Options:
    """Input, output, and the choice of clips."""

    data: str = required("a folder of videos, or of folders of frames", "take VoxCeleb, HDTF, CelebV-HQ or your own")
    output: str = option("prepared", "folder for the clips; if it exists, an output of the same options is resumed")
    layout: Literal["auto", "voxceleb", "hdtf", "celebv", "folders"] = option(
        "auto", "naming scheme that tells the identities; auto takes the first that 90 % of the names follow"
    )
    cropped: bool = option(False, "the videos are face crops already: take their central square, detect nothing")
    size: int = option(256, "side of the clips in pixels, even, 32 or more")
    fps: float = option(0.0, "frames per second to pick; 0 keeps all frames")
    detector: Literal["blazeface", "dlib"] = option("blazeface", "face detector; dlib needs depthaware[eval]")
    margin: float = option(FACTOR, "side of the square relative to the box around all places of the face, 1 or more")
    min_seconds: float = option(1.0, "drop clips that are shorter")
    max_seconds: float = option(20.0, "divide clips that are longer; at least twice --min-seconds")
    min_side: int = option(192, "drop clips whose square is smaller, in pixels of the source")
    min_motion: float = option(1.0, "drop clips whose pixels change less in a fifth of a second, of 255")
    min_overlap: float = option(0.3, "intersection over union with the face's mean place below which a new clip begins")
    detections_per_second: float = option(5.0, "how often faces are detected")
    test_share: float = option(0.1, "share of the identities in the test split, 0 to 1")
    workers: int = option(2, "number of processes")
    shards: float = option(0.0, "also pack the clips into WebDataset shards of at most this many MB; 0 for none")
    landmarks: str = option(
        "", "also find facial landmarks for train_dagan.py --landmarks, by an extractor of depthaware[eval]: dlib-mean"
    )
    landmarks_every: int = option(4, "frames of a clip from one whose landmarks are found to the next")
    dry_run: bool = option(False, "check everything, make the clips of the first video, keep nothing")


def prepare(source: str, options: Options) -> Record:
    """Make the clips of one source."""
    output, path = Path(options.output), Path(options.data, source)
    forget(output, source)
    record = Record(source, stamp_of(path))
    identity = identity_of(source, options.layout)
    if identity is None:
        return save(output, drop(record, 0, 0, f"no identity: not named as in {options.layout}"))
    try:
        video = read_video(path, strict=True)
        shots, times = find_shots(video, make_detector(options), options.detections_per_second)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
        return save(output, drop(record, 0, 0, f"unreadable: {reason}"))
    spans = [span for shot in shots for span in find_spans(shot, options.min_overlap)]
    try:
        return save(output, write_clips(record, video, spans, times, identity, options))
    except ValueError as error:  # it could be read before
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def make_detector(options: Options) -> BoxDetector:
    """Make the detector of this process, whose processes share the cores."""
    torch.set_num_threads(1)
    if options.cropped:
        return central_detector
    if options.detector == "dlib":
        return face_boxes(DlibFaceDetector())
    return face_boxes(BlazeFaceDetector(smallest=options.min_side / options.margin / 2))


def write_clips(
    record: Record, video: Video, spans: Sequence[Span], times: Sequence[Fraction], identity: str, options: Options
) -> Record:
    """Write the usable spans, decoding the video once, and record the reason for the others."""
    split, frames, position = split_of(identity, options.test_share), iter(video), 0
    folder = Path(options.output, split, "clips")
    folder.mkdir(parents=True, exist_ok=True)
    for part in divide_usable(spans, video.rate, options):
        start, seconds = (round(float(x), 3) for x in (times[part.first], (part.last - part.first) / video.rate))
        crop, reason = choose_crop(part, seconds, video.size, options)
        if crop is None:
            record = drop(record, start, seconds, reason)
            continue
        name = f"{clip_prefix(record.source)}_{len(record.clips):03d}"
        path, piece = folder / f"{name}.mp4", islice(frames, part.first - position, part.last - position)
        clip = write_clip(path, piece, crop, size=options.size, rate=video.rate, fps=options.fps)
        position = part.last
        if clip.motion < options.min_motion:
            path.unlink()
            record = drop(record, start, seconds, "still")
            continue
        seconds = round(float(clip.frames / clip.rate), 3)
        box = f"{crop.left} {crop.top} {crop.side}"
        row = ManifestRow(name, "clip", split, identity, clip.frames, record.source, start, box, seconds)
        record = record._replace(clips=(*record.clips, row))
    return record


def divide_usable(spans: Iterable[Span], rate: Fraction, options: Options) -> Iterator[Span]:
    """Divide the long spans that can be used, and pass on the others."""
    longest = max(1, int(options.max_seconds * rate))
    for span in spans:
        yield from [span] if span.reason else divide(span, longest)


def choose_crop(part: Span, seconds: float, size: tuple[int, int], options: Options) -> tuple[Crop | None, str]:
    """Return the square for a part, or None and the reason."""
    if part.reason:
        return None, part.reason
    if seconds < options.min_seconds:
        return None, "too short"
    boxes = [detection.faces[0] for detection in part.detections]
    crop = central_square(size) if options.cropped else face_crop(boxes, size, options.margin)
    if crop is None:
        return None, "at the edge"
    return (None, "face too small") if crop.side < options.min_side else (crop, "")


def is_done(options: Options, source: str) -> bool:
    path = record_path(Path(options.output), source)
    return path.exists() and load(path).stamp == stamp_of(Path(options.data, source))


def check_output(options: Options, sources: Sequence[str]) -> Options:
    """Check that the output folder can be begun or resumed; return the options with the layout, once chosen for all."""
    output, file = Path(options.output), Path(options.output, "options.json")
    if output.resolve().is_relative_to(Path(options.data).resolve()):
        raise ValueError(f"output {options.output!r}: is inside of data, where its clips would be taken for videos")
    if not file.exists() and output.exists() and any(output.iterdir()):
        raise ValueError(f"output {options.output!r}: holds other files, expected an empty folder or an earlier output")
    before = json.loads(file.read_text()) if file.exists() else {}
    if options.layout == "auto":
        options = replace(options, layout=before.get("layout") or choose_layout(sources))
    if before:
        check_same_options(f"output {options.output!r}", before, fixed(options), flags=True)
    return options


def open_output(options: Options) -> None:
    """Make the output folder."""
    output = Path(options.output)
    (output / ".done").mkdir(parents=True, exist_ok=True)
    with whole_file(output / "options.json") as part:
        part.write_text(json.dumps(fixed(options), indent=1) + "\n")


def fixed(options: Options) -> dict[str, object]:
    """Options that may not change when an output is resumed."""
    return {key: value for key, value in asdict(options).items() if key not in FREE}


def check(options: Options) -> None:
    """Raise one line for an option that is out of range."""
    rules = (
        ("size", options.size >= 32 and options.size % 2 == 0, "an even number from 32 on, as H.264 needs"),
        ("fps", options.fps >= 0, "0 or more"),
        ("margin", options.margin >= 1, "1 or more"),
        ("detections_per_second", options.detections_per_second > 0, "more than 0"),
        ("max_seconds", options.max_seconds >= 2 * options.min_seconds, "twice --min-seconds or more"),
        ("min_overlap", 0 <= options.min_overlap < 1, "0 to 1"),
        ("test_share", 0 <= options.test_share <= 1, "0 to 1"),
        ("workers", options.workers >= 1, "1 or more"),
        ("shards", options.shards >= 0, "0 or more megabytes"),
        ("landmarks", options.landmarks in ("", *available("landmarks")), " or ".join(available("landmarks"))),
        ("landmarks_every", options.landmarks_every >= 1, "1 or more"),
    )
    for name, valid, expected in rules:
        if not valid:
            raise ValueError(f"{flag(name)}: expected {expected}, got {getattr(options, name)}")


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def pack(options: Options, clips: Sequence[ManifestRow]) -> None:
    """Write the shards of both splits."""
    output = Path(options.output)
    for split in ("train", "test"):
        samples = [
            ShardSample(clip_path(output, clip), clip.identity, split, clip.frames, clip.source)
            for clip in clips
            if clip.split == split
        ]
        print(f"{split}: {write_shards(output / split / 'shards', samples, options.shards)} shards")


def add_landmarks(options: Options) -> None:
    """Find the landmarks of all clips that have none yet."""
    output = Path(options.output)
    clips = Clips(output, options.size, split="all", cache_gb=0)
    todo = [name for name in clips.names if not landmarks_path(output, name).exists()]
    for count, line in enumerate(map_in_processes(landmarks_of, todo, options, workers=options.workers), 1):
        print(printable(f"landmarks {count}/{len(todo)} {line}"), flush=True)


def landmarks_of(name: str, options: Options) -> str:
    """Write the landmarks of a clip, and say in how many frames there were any."""
    torch.set_num_threads(1)
    clips, path = Clips(options.output, options.size, split="all", cache_gb=0), landmarks_path(options.output, name)
    detector = load_extractor("landmarks", options.landmarks)
    faces = find_landmarks(clips, name, detector, path, every=options.landmarks_every)
    return f"{name}: {faces} frames with a face"


def landmarks_path(output: str | Path, name: str) -> Path:
    return Path(output, "landmarks", f"{name}.npz")


def summary(
    clips: Sequence[ManifestRow], dropped: Sequence[DroppedRow], sources: int, options: Options
) -> Iterator[str]:
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


def try_first(options: Options, sources: Sequence[str]) -> None:
    """Make the clips of the first video in a folder that is deleted afterwards."""
    with TemporaryDirectory() as folder:
        trial = replace(options, output=folder)
        open_output(trial)
        record = prepare(sources[0], trial)
    made, lost = len(record.clips), len(record.dropped)
    print(printable(f"{options.data}: {len(sources)} videos, named as in {options.layout}"))
    print(printable(f"dry run: {record.source}: {made} clips, {lost} dropped; nothing was written"))


def main(options: Options) -> None:
    check(options)
    sources, output = find_raw(Path(options.data)), Path(options.output)
    options = check_output(options, sources)
    if options.dry_run:
        try_first(options, sources)
        return
    if options.landmarks:
        load_extractor("landmarks", options.landmarks)  # fails at once for want of its package
    open_output(options)
    todo = [source for source in sources if not is_done(options, source)]
    done = sorted(set(sources).difference(todo))
    write_tables(output, done)  # a folder without a manifest, if this is stopped, would be read as all training clips
    if done:
        print(f"{len(done)} of {len(sources)} videos are done already")
    for count, record in enumerate(map_in_processes(prepare, todo, options, workers=options.workers), 1):
        made, lost = len(record.clips), len(record.dropped)
        print(printable(f"{count}/{len(todo)} {record.source}: {made} clips, {lost} dropped"), flush=True)
    clips, dropped = write_tables(output, sources)
    print(printable("\n".join(summary(clips, dropped, len(sources), options))))
    if not clips:
        reason = next((reason for reason, _ in Counter(row.reason for row in dropped).most_common(1)), "deleted")
        raise ValueError(f"data {options.data!r}: gave no clip; most often: {reason}")
    if options.landmarks:
        add_landmarks(options)
    if options.shards:
        pack(options, clips)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
