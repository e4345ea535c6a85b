"""Lists of the clips in a folder, and random access to their frames."""

import csv
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from ..faces import BlazeFaceDetector
from ..faces.crop import Crop, whole_image
from ..faces.framing import scene_crop
from ..media.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.image import Fit, Image, fit_square, read_image, to_tensor
from ..media.video import Frame, read_video

MANIFEST = "manifest.csv"
_SEARCHED = 12  # frames of a clip in which the face is searched, about


class Clip(NamedTuple):
    """Name of a clip, and identity of the person in it."""

    name: str
    identity: str


def list_clips(folder: str | Path, split: str = "test") -> list[Clip]:
    """List the clips in a folder, sorted by name.

    Args:
        folder: with videos or folders of frames at any depth; or with a manifest.csv with the columns name, kind (only
            rows of kind "clip" are used), split and identity.
        split: of the manifest; "all" for every split.

    Returns:
        Name and identity of each clip. Without a manifest each clip has an identity of its own, except names such as
        ``id10292#...`` in VoxCeleb, whose identity is the part before the ``#``.

    Raises:
        ValueError: if there are no clips.
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
    """All video files and folders of images, by their paths relative to `folder`."""
    found = {}
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts):
            continue
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            found[below.as_posix()] = path
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found[below.parent.as_posix()] = path.parent
    loose = found.pop(".", None)  # images at the top are a clip only if there is no other clip
    return found or ({folder.name: folder} if loose else {})


class ClipReader:
    """Read single frames of the clips in a folder, as square model inputs.

    The last clip stays open, so that frames in ascending order are decoded once; the last four frames are cached, so
    that a source is not read again for each driving frame.

    Args:
        folder: as in `list_clips`; names of clips may omit folders and the suffix.
        size: side of the frames in pixels.
        fit: how frames become square, see `fit_square`; "face" crops all frames of a clip as `animate` does.
    """

    def __init__(self, folder: str | Path, size: int, *, fit: Fit | Literal["face"] = "crop") -> None:
        self.folder, self.size, self.fit = Path(folder), size, fit
        self._crops: dict[str, Crop] = {}
        self._index: dict[str, set[Path]] | None = None
        self._cache: OrderedDict[tuple[str, int | str], Tensor] = OrderedDict()
        self._open: tuple[str, Iterator[Frame], int] | None = None

    def find(self, name: str) -> Path:
        """Find the path of a clip: `name`, `name`.mp4 or a folder `name`, in the folder or below it."""
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

    def frame(self, name: str, index: int | str) -> Tensor:
        """Read one frame of a clip: (1, 3, size, size) in [0, 1].

        Args:
            name: of the clip.
            index: number of the frame, from 0; or name of an image in a folder of frames.

        Raises:
            ValueError: if the clip or frame does not exist or cannot be read.
        """
        key = (name, index)
        if key not in self._cache:
            image = self._read(name, index)
            if self.fit == "face":
                self._cache[key] = to_tensor(self._face_crop(name).read(image, self.size))
            else:
                self._cache[key] = fit_square(image, self.size, self.fit)
        self._cache.move_to_end(key)
        while len(self._cache) > 4:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _face_crop(self, name: str) -> Crop:
        """Place the square for a clip around the largest faces in frames spread over it."""
        if name not in self._crops:
            path = self.find(name)
            video = read_video(path)
            every = max(1, video.frames // _SEARCHED)
            faces = BlazeFaceDetector()([frame.image for i, frame in enumerate(video) if i % every == 0])
            crop = scene_crop([found[0] if found else None for found in faces])
            if crop is None:
                raise ValueError(f"{path}: found no face in {len(faces)} of its frames, expected one to crop around")
            self._crops[name] = whole_image(crop, video.size)
        return self._crops[name]

    def _read(self, name: str, index: int | str) -> Image:
        path = self.find(name)
        if path.is_dir():
            return read_image(_find_image(path, index))
        if isinstance(index, str):
            raise ValueError(f"{path}: is a video, expected the number of a frame, got {index!r}")
        return self._decode(name, path, index)

    def _decode(self, name: str, path: Path, index: int) -> Image:
        opened, self._open = self._open, None  # reset, so that a failed clip is reopened
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
        """Describe an error in one line, with paths relative to the folder."""
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        return " ".join(text.replace(f"{self.folder}/", "").split())


def _find_image(folder: Path, index: int | str) -> Path:
    if isinstance(index, str) and (folder / index).is_file():
        return folder / index
    images = read_video(folder).images
    found = [image for image in images if image.stem == index] if isinstance(index, str) else images[index : index + 1]
    if not found:
        raise ValueError(f"{folder}: has {len(images)} images, expected one with name or number {index}")
    return found[0]
