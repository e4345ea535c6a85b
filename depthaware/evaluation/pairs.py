"""What is compared with what: the protocols and the lists of pairs."""

import csv
import random
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from .clip_reader import Clip, ClipReader

_FOLDER = files("depthaware") / "assets" / "protocols"
_COLUMNS = ("source_video", "source_frame", "driving_video", "driving_frame")
# The pairs of the list with best frames are those of the list without, in the same order.
BUNDLED = {
    "voxceleb1-same-identity": ("voxceleb1-same-identity.csv", False),
    "voxceleb1-cross-identity": ("voxceleb1-cross-identity-best-frame.csv", False),
    "voxceleb1-cross-identity-best-frame": ("voxceleb1-cross-identity-best-frame.csv", True),
    "celebv-cross-identity": ("celebv-cross-identity.csv", False),
}
"""Published pair lists: name, file, and whether its column initial_frame counts."""


class Pair(NamedTuple):
    """One source frame and one driving frame; frames are numbers from 0, or names of pictures in a folder.

    Attributes:
        source_video: clip that lends its looks.
        source_frame: of that clip.
        driving_video: clip that lends its motion.
        driving_frame: of that clip.
        initial_frame: frame of the driving video that relative motion counts from.
    """

    source_video: str
    source_frame: int | str
    driving_video: str
    driving_frame: int | str
    initial_frame: int | str = 0

    @property
    def has_truth(self) -> bool:
        """Whether the driving frame shows what the result should look like: both are of one video, by its name."""
        return self.source_video == self.driving_video


class Failure(NamedTuple):
    """Something that could not be evaluated, and why."""

    name: str
    reason: str


class PairList(NamedTuple):
    """The pairs of a protocol, and the clips that give none."""

    pairs: list[Pair]
    failures: list[Failure]


def same_identity(footage: ClipReader, clips: Sequence[Clip], *, every: int = 1) -> PairList:
    """Reconstruction: the first frame of every clip, driven by every `every`-th of its frames but the first itself."""
    lengths, failures = _lengths(footage, clips, smallest=2)
    pairs = [Pair(name, 0, name, i) for name, frames in lengths.items() for i in _driving(frames, every)]
    return PairList(pairs, failures)


def cross_identity(
    footage: ClipReader, clips: Sequence[Clip], *, every: int = 1, sources_per_clip: int = 1, seed: int = 0
) -> PairList:
    """Reenactment: every clip drives the first frame of clips of other identities.

    Args:
        footage: the clips' frames.
        clips: and who is seen in them.
        every: take every n-th driving frame; the first, to which motion is relative, is left out.
        sources_per_clip: how many sources each clip drives.
        seed: chooses them; the same seed and clips give the same pairs.
    """
    lengths, failures = _lengths(footage, clips, smallest=2)
    rng, pairs = random.Random(seed), []
    for name, identity in clips:
        if name not in lengths:
            continue
        others = [clip.name for clip in clips if clip.identity != identity and clip.name in lengths]
        if not others:
            raise ValueError(f"cross-identity: expected clips of at least 2 identities, all are of {identity!r}")
        for _ in range(min(sources_per_clip, len(others))):
            # Of all that `random` offers, `random()` alone gives the same numbers in every version of Python.
            source = others.pop(int(rng.random() * len(others)))
            pairs += [Pair(source, 0, name, i) for i in _driving(lengths[name], every)]
    return PairList(pairs, failures)


def _lengths(footage: ClipReader, clips: Sequence[Clip], smallest: int) -> tuple[dict[str, int], list[Failure]]:
    lengths, failures = {}, []
    for name, _ in clips:
        try:
            lengths[name] = footage.count(name)
            if lengths[name] < smallest:
                raise ValueError(f"{footage.find(name)}: has {lengths.pop(name)} frame, expected at least {smallest}")
        except (ValueError, OSError) as error:
            failures.append(Failure(name, footage.reason(error)))
    return lengths, failures


def _driving(frames: int, every: int) -> range:
    """Every `every`-th frame without the first; one at least."""
    return range(min(every, frames - 1), frames, every)


def read_pairs(name: str | Path) -> list[Pair]:
    """Pairs of single frames, from a CSV file or a bundled list.

    Args:
        name: one of `BUNDLED`, or a file with the columns source_video, source_frame, driving_video, driving_frame,
            and initial_frame if relative motion shall count from another driving frame than the first.

    Raises:
        ValueError: naming the line that is wrong.
    """
    file, with_initial = BUNDLED.get(str(name), (None, True))
    path = Path(str(_FOLDER / file)) if file else Path(name)
    with open(path, newline="", encoding="utf-8-sig") as lines:
        try:
            return list(_parse(path, csv.reader(lines), with_initial))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: is not a CSV file ({error})") from error


def unite_names(pairs: Sequence[Pair], footage: ClipReader) -> list[Pair]:
    """The same pairs, with every clip under the first of its names: ``clip1`` and ``clip1.mp4`` are one video."""
    names: dict[str, str] = {}
    first: dict[Path, str] = {}
    for name in (name for pair in pairs for name in (pair.source_video, pair.driving_video)):
        if name not in names:
            try:
                names[name] = first.setdefault(footage.find(name), name)
            except (ValueError, OSError):
                names[name] = name  # what is wrong with it is said of each of its pairs
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
