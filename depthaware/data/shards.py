"""Clips in tar files as WebDataset lays them out: KEY.mp4 beside KEY.json with the identity and the split."""

import errno
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from fsspec.core import url_to_fs

from ..evaluation import Clip
from ..evaluation.clip_reader import MANIFEST
from ..media.formats import VIDEO_SUFFIXES

About = dict[str, object]  # what the JSON beside a clip says


class Member(NamedTuple):
    """Where a file lies in a tar.

    Attributes:
        url: of the tar, or its path.
        offset: of the file's first byte.
        size: in bytes.
    """

    url: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """The file, in memory; of a tar on a server this range of bytes alone is fetched."""
        with _as_os_error(self.url):
            system, path = url_to_fs(self.url)  # afresh, since no connection survives into a loader's workers
            return io.BytesIO(system.cat_file(path, self.offset, self.offset + self.size))


class Shards(NamedTuple):
    """What some tars hold.

    Attributes:
        clips: by name.
        members: name -> where the clip lies.
    """

    clips: list[Clip]
    members: dict[str, Member]


def find_shards(data: str | Path) -> list[str]:
    """The tars of a folder, or under a pattern that ends in .tar, perhaps on a server; none if it is neither.

    A folder with manifest.csv is read by that, whatever tars are in it: they do not know its splits.
    """
    if (Path(data) / MANIFEST).is_file():
        return []
    if Path(data).is_dir():
        return sorted(str(path) for path in Path(data).glob("*.tar") if not path.name.startswith("."))
    if not str(data).endswith(".tar"):
        return []
    with _as_os_error(str(data)):
        system, pattern = url_to_fs(str(data))
        paths = sorted(system.glob(pattern)) if set(pattern) & set("*?[") else [pattern]
    return [system.unstrip_protocol(path) if "://" in str(data) else path for path in paths]


def index_shards(urls: list[str], split: str = "train") -> Shards:
    """Find the clips of a split; of a tar only the headers and the JSON are read.

    A clip without JSON is in every split, and its identity is the key up to a ``#``.

    Raises:
        ValueError: if a tar is cut short, or a key appears twice or has a dot, or JSON is not as it should be, or there
            are no clips.
    """
    clips: dict[str, Clip] = {}
    members: dict[str, Member] = {}
    for url in urls:
        for key, member, about in _index(url):
            if key in members:
                raise ValueError(f"{url}: has {key!r}, which {members[key].url} has too, expected every key once")
            members[key] = member
            if split in ("all", about.get("split", split)):
                clips[key] = Clip(key, str(about.get("identity", key.partition("#")[0])))
    if not clips:
        raise ValueError(f"{', '.join(urls[:3])}: expected clips of split {split!r}, found none")
    return Shards(sorted(clips.values()), {key: members[key] for key in clips})


@cache  # clips that are held out, and those for sample sheets, are of the same tars
def _index(url: str) -> list[tuple[str, Member, About]]:
    videos: dict[str, Member] = {}
    about: dict[str, About] = {}
    dotted: dict[str, str] = {}
    for name, content in _members(url):
        folder, slash, file = name.rpartition("/")
        stem, _, suffix = file.partition(".")  # as WebDataset has it, at the first dot
        key = folder + slash + stem
        if isinstance(content, dict):
            about[key] = content
        elif f".{suffix.lower()}" in VIDEO_SUFFIXES:
            videos[key] = content
        else:
            dotted[key] = name
    if lost := [name for key, name in dotted.items() if key not in videos]:  # else it is more of a sample, like a mask
        raise ValueError(f"{url}: {lost[0]}: a key ends at the first dot, expected none before the suffix")
    return [(key, video, about.get(key, {})) for key, video in videos.items()]


def _members(url: str) -> Iterator[tuple[str, Member | About]]:
    """Names of videos and of JSON files, and where those lie, and what these say."""
    with _as_os_error(url):
        system, path = url_to_fs(url)
        try:
            with system.open(path, "rb", block_size=2**16) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    file_name = member.name.rpartition("/")[2]
                    if not member.isfile() or file_name.startswith("."):
                        continue
                    if file_name.partition(".")[2] == "json":
                        yield member.name, _label(tar.extractfile(member), f"{url}: {member.name}")
                    elif file_name.lower().endswith(VIDEO_SUFFIXES):
                        yield member.name, Member(url, member.offset_data, member.size)
                file.seek(tar.offset)  # type: ignore[attr-defined]
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes half a header for the end
                    raise tarfile.ReadError("unexpected end of data")
        except tarfile.TarError as error:
            raise ValueError(f"{url}: is cut short, or no tar file ({error})") from error


def _label(file: IO[bytes] | None, where: str) -> About:
    try:
        label = json.load(file)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error})") from error
    if not isinstance(label, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(label).__name__}")
    return label


@contextmanager
def _as_os_error(url: str) -> Iterator[None]:
    """Errors that are a file system's own, such as aiohttp's, in one line as those of other files."""
    try:
        yield
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error
