"""Clips in WebDataset tars: KEY.mp4 beside KEY.json with the identity and the split."""

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

from ..media.formats import VIDEO_SUFFIXES
from .clip_reader import MANIFEST, Clip

Metadata = dict[str, object]  # content of the JSON beside a clip


class TarMember(NamedTuple):
    """Byte range of a file in a tar.

    Attributes:
        url: URL or path of the tar.
        offset: of the file's first byte.
        size: in bytes.
    """

    url: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """Read the file into memory; from a server only this range of bytes is fetched."""
        with _as_os_error(self.url):
            system, path = url_to_fs(self.url)  # anew, since connections do not survive a fork into a loader's workers
            return io.BytesIO(system.cat_file(path, self.offset, self.offset + self.size))


class ShardIndex(NamedTuple):
    """Clips found in tars.

    Attributes:
        clips: sorted by name.
        members: name of a clip -> its byte range.
    """

    clips: list[Clip]
    members: dict[str, TarMember]


def find_shards(data: str | Path) -> list[str]:
    """Find tars in a folder or by a pattern.

    Args:
        data: a folder, or a path, URL or glob pattern that ends in ``.tar``.

    Returns:
        Paths or URLs, sorted; none if `data` is something else, or a folder with manifest.csv, whose tars may not know
        its splits.

    Raises:
        OSError: if a server fails.
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


def index_shards(urls: list[str], split: str = "train") -> ShardIndex:
    """Find the clips of a split; of each tar only the headers and the JSON files are read.

    A clip without JSON is in every split, and its identity is its key up to a ``#``.

    Args:
        urls: of the tars, see [`find_shards`][depthaware.data.find_shards].
        split: "all" for every clip.

    Raises:
        ValueError: if a tar is cut short, a key appears twice or has a dot, a JSON file is not an object, or there are
            no clips.
        OSError: if a server fails.
    """
    clips: dict[str, Clip] = {}
    members: dict[str, TarMember] = {}
    for url in urls:
        for key, member, metadata in _index(url):
            if key in members:
                raise ValueError(f"{url}: has {key!r}, which {members[key].url} has too, expected every key once")
            members[key] = member
            if split in ("all", metadata.get("split", split)):
                clips[key] = Clip(key, str(metadata.get("identity", key.partition("#")[0])))
    if not clips:
        raise ValueError(f"{', '.join(urls[:3])}: expected clips of split {split!r}, found none")
    return ShardIndex(sorted(clips.values()), {key: members[key] for key in clips})


@cache  # training and held-out clips come from the same tars
def _index(url: str) -> list[tuple[str, TarMember, Metadata]]:
    videos: dict[str, TarMember] = {}
    metadata: dict[str, Metadata] = {}
    dotted: dict[str, str] = {}
    for name, content in _members(url):
        folder, slash, file = name.rpartition("/")
        stem, _, suffix = file.partition(".")  # as WebDataset has it, at the first dot
        key = folder + slash + stem
        if isinstance(content, dict):
            metadata[key] = content
        elif f".{suffix.lower()}" in VIDEO_SUFFIXES:
            videos[key] = content
        else:
            dotted[key] = name
    if lost := [name for key, name in dotted.items() if key not in videos]:  # else it belongs to a sample, like a mask
        raise ValueError(f"{url}: {lost[0]}: a key ends at the first dot, expected none before the suffix")
    return [(key, video, metadata.get(key, {})) for key, video in videos.items()]


def _members(url: str) -> Iterator[tuple[str, TarMember | Metadata]]:
    """Yield the name of each video with its byte range, and of each JSON file with its content."""
    with _as_os_error(url):
        system, path = url_to_fs(url)
        try:
            with system.open(path, "rb", block_size=2**16) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    file_name = member.name.rpartition("/")[2]
                    if not member.isfile() or file_name.startswith("."):
                        continue
                    if file_name.partition(".")[2] == "json":
                        yield member.name, _read_json(tar.extractfile(member), f"{url}: {member.name}")
                    elif file_name.lower().endswith(VIDEO_SUFFIXES):
                        yield member.name, TarMember(url, member.offset_data, member.size)
                file.seek(tar.offset)  # type: ignore[attr-defined]
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes half a header for the end
                    raise tarfile.ReadError("unexpected end of data")
        except tarfile.TarError as error:
            raise ValueError(f"{url}: is cut short, or no tar file ({error})") from error


def _read_json(file: IO[bytes] | None, where: str) -> Metadata:
    try:
        content = json.load(file)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(content).__name__}")
    return content


@contextmanager
def _as_os_error(url: str) -> Iterator[None]:
    """Turn errors of a file system's client, such as aiohttp's, into an `OSError` of one line."""
    try:
        yield
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error
