"""WebDataset shards of clips: tars with NAME.mp4 and NAME.json of each clip."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...media.atomic import whole_file


class ShardSample(NamedTuple):
    """A clip to be packed into a shard.

    Attributes:
        path: of the mp4; its stem is the key.
        identity: of the person.
        split: "train" or "test".
        frames: number of frames.
        source: path of the raw video.
    """

    path: Path
    identity: str
    split: str
    frames: int
    source: str


def write_shards(folder: Path, samples: Sequence[ShardSample], megabytes: float) -> int:
    """Write 000000.tar, 000001.tar, ... and delete those with higher numbers from earlier runs.

    The order is that of hashes of the names, so that every shard mixes persons and the bytes are reproducible.

    Args:
        folder: made if it is missing.
        samples: clips to pack.
        megabytes: largest size of a shard; a clip that is larger gets a shard of its own.

    Returns:
        The number of shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, shard in enumerate(_pack(samples, megabytes * 1e6), 1):
        with (
            whole_file(folder / f"{count - 1:06d}.tar") as part,
            tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for sample in shard:
                _add(tar, f"{sample.path.stem}.mp4", sample.path.read_bytes())
                _add(tar, f"{sample.path.stem}.json", _metadata(sample))
    for stale in folder.glob("*.tar"):
        if stale.stem.isdecimal() and int(stale.stem) >= count:
            stale.unlink()
    return count


def _pack(samples: Sequence[ShardSample], limit: float) -> Iterator[list[ShardSample]]:
    shard: list[ShardSample] = []
    room = limit - 2 * tarfile.RECORDSIZE
    for sample in sorted(samples, key=lambda sample: hashlib.sha256(sample.path.stem.encode()).digest()):
        need = _size_in_tar(sample.path.stat().st_size) + _size_in_tar(len(_metadata(sample)))
        if shard and need > room:
            yield shard
            shard, room = [], limit - 2 * tarfile.RECORDSIZE
        shard.append(sample)
        room -= need
    if shard:
        yield shard


def _metadata(sample: ShardSample) -> bytes:
    return json.dumps({key: getattr(sample, key) for key in ("identity", "split", "frames", "source")}).encode()


def _size_in_tar(size: int) -> int:
    """Bytes that a file takes in a tar: a header and whole blocks."""
    return tarfile.BLOCKSIZE * (1 - -size // tarfile.BLOCKSIZE)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time and owner, so that the bytes are reproducible
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
