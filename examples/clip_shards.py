"""Clips in tar files as WebDataset lays them out: KEY.mp4 beside KEY.json with the identity and the split."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fsspec.core import url_to_fs

from depthaware.evaluation import Clip
from depthaware.evaluation.footage import VIDEOS


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
    """The tars of a folder, or under a pattern that ends in .tar, perhaps on a server; none if it is neither."""
    if Path(data).is_dir():
        return sorted(str(path) for path in Path(data).glob("*.tar") if not path.name.startswith("."))
    if not str(data).endswith(".tar"):
        return []
    system, pattern = url_to_fs(str(data))
    paths = sorted(system.glob(pattern)) if set(pattern) & set("*?[") else [pattern]
    return [system.unstrip_protocol(path) if "://" in str(data) else path for path in paths]


def index_shards(urls: list[str], split: str = "train") -> Shards:
    """Find the clips of a split; of a tar only the headers and the JSON are read.

    A clip without JSON is in every split, and its identity is the key up to a ``#``.

    Raises:
        ValueError: if a tar is cut short, or a key appears twice, or there are no clips.
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


def _index(url: str) -> Iterator[tuple[str, Member, dict[str, object]]]:
    videos: dict[str, Member] = {}
    about: dict[str, dict[str, object]] = {}
    system, path = url_to_fs(url)
    try:
        with system.open(path, "rb", block_size=2**16) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")  # as WebDataset has it, at the first dot
                if suffix == "json":
                    about[folder + slash + stem] = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                elif f".{suffix.lower()}" in VIDEOS:
                    videos[folder + slash + stem] = Member(url, member.offset_data, member.size)
            file.seek(tar.offset)  # type: ignore[attr-defined]
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes half a header for the end
                raise tarfile.ReadError("unexpected end of data")
    except tarfile.TarError as error:
        raise ValueError(f"{url}: is cut short, or no tar file ({error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{url}: {member.name} is not JSON ({error})") from error
    return ((key, video, about.get(key, {})) for key, video in videos.items())
