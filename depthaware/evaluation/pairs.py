"""Pairs of source and driving frames, and lists of them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..data.clip_reader import ClipReader
from ..media.signatures import check_regular

_FOLDER = files("depthaware") / "assets" / "protocols"
_COLUMNS = ("source_video", "source_frame", "driving_video", "driving_frame")
# The list with best frames and the list without hold the same pairs in the same order.
BUNDLED = {
    "voxceleb1-same-identity": ("voxceleb1-same-identity.csv", False),
    "voxceleb1-cross-identity": ("voxceleb1-cross-identity-best-frame.csv", False),
    "voxceleb1-cross-identity-best-frame": ("voxceleb1-cross-identity-best-frame.csv", True),
    "celebv-cross-identity": ("celebv-cross-identity.csv", False),
}
"""Published pair lists: name -> (file, whether its column initial_frame is used)."""


class Pair(NamedTuple):
    """One source frame and one driving frame; frames are numbers from 0, or names of images in a folder.

    Attributes:
        source_video: source clip, for appearance.
        source_frame: frame of the source clip.
        driving_video: driving clip, for motion.
        driving_frame: frame of the driving clip.
        initial_frame: reference frame of the driving clip for relative motion.
    """

    source_video: str
    source_frame: int | str
    driving_video: str
    driving_frame: int | str
    initial_frame: int | str = 0

    @property
    def has_truth(self) -> bool:
        """True if the driving frame is the ground truth: source and driving frame are of one video, by its name."""
        return self.source_video == self.driving_video


class Failure(NamedTuple):
    """Name of an item that could not be evaluated, and the reason."""

    name: str
    reason: str


class PairList(NamedTuple):
    """Pairs of a protocol, and the clips that gave none.

    Attributes:
        pairs: source and driving frames.
        failures: clips without pairs.
        persons: video -> person; `person_of` the name where a video is absent.
    """

    pairs: list[Pair]
    failures: list[Failure]
    persons: Mapping[str, str] = {}


def person_of(video: str, persons: Mapping[str, str]) -> str:
    """Find the person in a video: the one that is given, or, as in VoxCeleb, the part of its name before the ``#``."""
    name = Path(video).name
    return persons.get(video) or persons.get(Path(video).stem) or (name.partition("#")[0] if "#" in name else video)


def read_pairs(name: str | Path) -> list[Pair]:
    """Read pairs from a CSV file or a bundled list.

    Args:
        name: one of `BUNDLED`, or a file with the columns source_video, source_frame, driving_video, driving_frame,
            and optionally initial_frame, the reference of relative motion, by default the first frame.

    Raises:
        ValueError: with the first invalid line.
    """
    file, with_initial = BUNDLED.get(str(name), (None, True))
    path = Path(str(_FOLDER / file)) if file else Path(name)
    check_regular(path)
    with open(path, newline="", encoding="utf-8-sig") as lines:
        try:
            return list(_parse(path, csv.reader(lines), with_initial))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: is not a CSV file ({error})") from error


def check_videos(pairs: Sequence[Pair], reader: ClipReader, name: str) -> None:
    """Raise ValueError if not one video of a list of that name is there."""
    videos = list(dict.fromkeys(video for pair in pairs for video in (pair.source_video, pair.driving_video)))
    for video in videos:
        try:
            reader.find(video)
            return
        except ValueError:
            continue
    raise ValueError(
        f"data {str(reader.folder)!r}: has none of the {len(videos)} videos of {name}, such as {videos[0]}"
    )


def unite_names(pairs: Sequence[Pair], reader: ClipReader) -> list[Pair]:
    """Replace all names of one clip by the first of them: ``clip1`` and ``clip1.mp4`` are one video."""
    names: dict[str, str] = {}
    first: dict[Path, str] = {}
    for name in (name for pair in pairs for name in (pair.source_video, pair.driving_video)):
        if name not in names:
            try:
                names[name] = first.setdefault(reader.find(name), name)
            except (ValueError, OSError):
                names[name] = name  # the error is reported for each of its pairs
    return [p._replace(source_video=names[p.source_video], driving_video=names[p.driving_video]) for p in pairs]


def _parse(path: Path, lines: Iterator[list[str]], with_initial: bool) -> Iterator[Pair]:
    header = next(lines, [])
    allowed = (_COLUMNS, (*_COLUMNS, "initial_frame"))
    if tuple(header) not in allowed:
        raise ValueError(f"{path} line 1: expected the columns {','.join(_COLUMNS)}[,initial_frame], got {header}")
    number = 1
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        if len(cells) != len(header) or not all(cells):
            raise ValueError(f"{path} line {number}: expected {len(header)} values, none of them empty, got {cells}")
        source, source_frame, driving, driving_frame, *initial = cells
        frames = [int(cell) if cell.isdecimal() else cell for cell in (source_frame, driving_frame, *initial)]
        yield Pair(source, frames[0], driving, frames[1], frames[2] if initial and with_initial else 0)
    if number == 1:
        raise ValueError(f"{path}: has no pairs")


def batches(pairs: Sequence[Pair], size: int) -> Iterator[list[int]]:
    """Split pairs into batches with one common source or one source each, and with ground truth for all or none.

    Returns:
        Indices into `pairs`, each once.
    """
    if size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {size}")
    singles: list[int] = []
    for (_, truth), group in groupby(range(len(pairs)), key=lambda i: (pairs[i][:2], pairs[i].has_truth)):
        same_source = list(group)
        if singles and (len(singles) == size or pairs[singles[0]].has_truth != truth):
            yield singles
            singles = []
        if len(same_source) == 1:
            singles += same_source
        else:
            yield from (same_source[start : start + size] for start in range(0, len(same_source), size))
    if singles:
        yield singles
