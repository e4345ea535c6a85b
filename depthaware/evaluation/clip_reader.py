"""The clips of a folder, and single frames of them."""

import csv
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..media.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.image import Fit, Image, fit_square, read_image
from ..media.video import Frame, read_video

MANIFEST = "manifest.csv"


class Clip(NamedTuple):
    """A clip by its name, and who is seen in it."""

    name: str
    identity: str


def list_clips(folder: str | Path, split: str = "test") -> list[Clip]:
    """The clips in a folder, by name.

    Args:
        folder: holds videos or folders of frames, however deep; or manifest.csv with the columns name, kind (only
            "clip" is taken), split and identity.
        split: of the manifest; "all" for every one.

    Returns:
        Without a manifest every clip is a person of their own, but for names like ``id10292#...``, as VoxCeleb has
        them, which are of one person up to the ``#``.

    Raises:
        ValueError: if there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"data {str(folder)!r}: expected a folder with clips or folders of frames")
    if (folder / MANIFEST).is_file():
        return _read_manifest(folder / MANIFEST, split)
    clips = [Clip(name, Path(name).name.partition("#")[0] if "#" in name else name) for name in sorted(_scan(folder))]
    if not clips:
        raise ValueError(f"data {str(folder)!r}: found no clips ({', '.join(VIDEO_SUFFIXES)}) and no folders of frames")
    return clips


def _read_manifest(path: Path, split: str) -> list[Clip]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file)
            missing = {"name", "kind", "split", "identity"} - set(reader.fieldnames or ())
            rows = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: is not a CSV file ({error})") from error
    if missing:
        raise ValueError(f"{path}: expected the columns name, kind, split, identity, found no {min(missing)}")
    rows = [row for row in rows if row["kind"] == "clip"]
    chosen = [Clip(row["name"], row["identity"]) for row in rows if split in ("all", row["split"])]
    if not chosen:
        splits = ", ".join(sorted({row["split"] for row in rows})) or "no clips at all"
        raise ValueError(f"{path}: has no clips of split {split!r}, found {splits}")
    return sorted(chosen)


def _scan(folder: Path) -> dict[str, Path]:
    """Every video file, and every folder with pictures in it, by its path below `folder`."""
    found = {}
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts):
            continue
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            found[below.as_posix()] = path
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found[below.parent.as_posix()] = path.parent
    loose = found.pop(".", None)  # pictures at the top are a clip only where there is no other
    return found or ({folder.name: folder} if loose else {})


class ClipReader:
    """Frames of the clips in a folder, as the squares that a model takes.

    The clip that was read last stays open, so that frames in rising order are decoded once; and a few frames are kept,
    so that a source is not read again for each of its drivers.

    Args:
        folder: as in `list_clips`; a name may leave out folders and the suffix.
        size: side of the frames.
        fit: how they become square, see `fit_square`.
    """

    def __init__(self, folder: str | Path, size: int, *, fit: Fit = "crop") -> None:
        self.folder, self.size, self.fit = Path(folder), size, fit
        self._index: dict[str, set[Path]] | None = None
        self._kept: OrderedDict[tuple[str, int | str], Tensor] = OrderedDict()
        self._open: tuple[str, Iterator[Frame], int] | None = None

    def find(self, name: str) -> Path:
        """Path of a clip: `name`, `name`.mp4, or a folder `name`, here or further down."""
        for candidate in (self.folder / name, *(self.folder / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)):
            if candidate.is_file() or (candidate.is_dir() and candidate != self.folder):
                return candidate
        if self._index is None:
            self._index = {}
            for path in _scan(self.folder).values():
                for key in (path.name, path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name):
                    self._index.setdefault(key, set()).add(path)
        bare = Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name
        found = sorted(self._index.get(name) or self._index.get(bare) or ())
        if len(found) != 1:
            several = f"found {len(found)}, {found[0]} and {found[1]}" if found else "found none"
            raise ValueError(f"{name}: expected one clip or folder of frames of that name, {several}")
        return found[0]

    def count(self, name: str) -> int:
        """Number of frames of a clip."""
        return read_video(self.find(name)).frames

    def frame(self, name: str, which: int | str) -> Tensor:
        """One frame of a clip: (1, 3, size, size) in [0, 1].

        Args:
            name: of the clip.
            which: position, from 0; or a picture's name in a folder of frames.

        Raises:
            ValueError: if there is no such clip or frame, or it cannot be read.
        """
        key = (name, which)
        if key not in self._kept:
            self._kept[key] = fit_square(self._read(name, which), self.size, self.fit)
        self._kept.move_to_end(key)
        while len(self._kept) > 4:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _read(self, name: str, which: int | str) -> Image:
        path = self.find(name)
        if path.is_dir():
            return read_image(_picture(path, which))
        if isinstance(which, str):
            raise ValueError(f"{path}: is a video, expected the number of a frame, got {which!r}")
        return self._decode(name, path, which)

    def _decode(self, name: str, path: Path, index: int) -> Image:
        opened, self._open = self._open, None  # after an error there is nothing to go on with
        if opened is None or opened[0] != name or opened[2] > index:
            opened = (name, iter(read_video(path)), 0)
        _, frames, count = opened
        for frame in frames:
            count += 1
            if count > index:
                self._open = (name, frames, count)
                return frame.image
        raise ValueError(f"{path}: has {count} frames, expected one of number {index}")

    def reason(self, error: Exception) -> str:
        """What went wrong, in one line; files are named from the folder on."""
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        return " ".join(text.replace(f"{self.folder}/", "").split())


def _picture(folder: Path, which: int | str) -> Path:
    if isinstance(which, str) and (folder / which).is_file():
        return folder / which
    pictures = read_video(folder).pictures
    found = [p for p in pictures if p.stem == which] if isinstance(which, str) else pictures[which : which + 1]
    if not found:
        raise ValueError(f"{folder}: has {len(pictures)} pictures, expected one called or of number {which}")
    return found[0]
