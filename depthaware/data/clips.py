"""Training clips: their frames by name and number, as squares, from memory or by seeking in the file."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..media.image import find_images, read_image
from .clip_reader import Clip, ClipReader, list_clips
from .frames import VideoIndex, crop_square, index_video, read_frames
from .shards import ShardIndex, find_shards, index_shards

MAX_CHECKED = 1000  # clips that `check` opens before a run; each takes some milliseconds


class Clips:
    """Clips of one split, with random access to their frames by name and number.

    A clip is decoded whole into memory when it is first read, as long as there is room; frames of the other clips are
    read by seeking to the key frame before them, so large data should be encoded with frequent key frames
    (``-g 12 -bf 0``). Samples are random, so evicting clips in favor of others would gain nothing. Both ways give the
    same frames.

    Args:
        data: folder as in [`list_clips`][depthaware.data.list_clips]: videos, folders of frames, or manifest.csv.
            Or WebDataset tars, see [`index_shards`][depthaware.data.index_shards]: a folder of them, or a pattern like
            ``shards/*.tar``. It may be any URL that fsspec supports (``https://``, ``s3://``, ...); each clip is then
            fetched as a range of bytes.
        size: side of the frames in pixels.
        split: of the manifest, if there is one.
        hold_out: number of identities (the last by name) to leave out for validation.
        held_out: take those identities instead of the others.
        cache_gb: memory for decoded clips, in GB per process.

    Attributes:
        names: names of the clips, sorted.
        by_identity: identity -> the names of its clips, both sorted.
        dropped: clip -> why a sample from it was skipped.

    Raises:
        ValueError: if there are no clips, or fewer identities than `hold_out` + 1.
    """

    def __init__(
        self,
        data: str | Path,
        size: int,
        *,
        split: str = "train",
        hold_out: int = 0,
        held_out: bool = False,
        cache_gb: float = 2.0,
    ) -> None:
        self.data, self.size, self.cache_gb = data, size, cache_gb
        self._reader = ClipReader(data, size)
        shards = find_shards(data)
        clips, self._members = index_shards(shards, split) if shards else ShardIndex(list_clips(data, split), {})
        self.by_identity = _choose(clips, hold_out, held_out, str(data))
        self.names = sorted(name for names in self.by_identity.values() for name in names)
        self.dropped: dict[str, str] = {}
        self._indices: dict[str, VideoIndex | Sequence[Path]] = {}
        self._cached: dict[str, np.ndarray] = {}
        self._damaged: set[str] = set()

    def check(self, least: int = 2) -> dict[str, str]:
        """Open every clip once, without decoding it, and note the unusable ones in `dropped`.

        At most `MAX_CHECKED` clips are opened, evenly spread, and none on a server, so that a run starts at once; it
        skips other unusable clips when it meets them.

        Args:
            least: number of frames below which a clip is unusable.

        Returns:
            `dropped`.

        Raises:
            ValueError: if no clip is usable.
        """
        if any("://" in member.url for member in self._members.values()):
            return self.dropped
        for name in self.names[:: -(-len(self.names) // MAX_CHECKED)]:
            try:
                self.expect(name, least)
            except (ValueError, OSError) as error:
                self.dropped[name] = self.reason(error)
        if len(self.dropped) == len(self.names):
            raise self.no_usable_clip(self.dropped)
        return self.dropped

    def length(self, name: str) -> int:
        """Count the frames of a clip."""
        index = self._index(name)
        return len(index.times if isinstance(index, VideoIndex) else index)

    def expect(self, name: str, least: int) -> int:
        """Return the length of a clip; raise `ValueError` if it is less than `least` frames."""
        length = self.length(name)
        if length < least:
            raise ValueError(f"has {length} frame{'s' * (length != 1)}, expected at least {least}")
        return length

    def read(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Read frames of a clip.

        Args:
            name: one of `names`.
            indices: frame numbers from 0, in any order, repetitions allowed.

        Returns:
            uint8 (n, size, size, 3).

        Raises:
            ValueError: if there are no such frames, or they cannot be decoded.
        """
        length = self.length(name)
        if bad := [n for n in indices if not 0 <= n < length]:
            raise ValueError(f"{name}: has {length} frames, expected one of number {bad[0]}")
        if self._has_room(name):
            try:
                self._cached[name] = self._decode(name, range(length))
            except ValueError:  # one of its frames is damaged, perhaps none of `indices`
                self._damaged.add(name)
        if name in self._cached:
            return self._cached[name][list(indices)]
        return self._decode(name, indices)

    def drop(self, name: str, error: Exception) -> None:
        """Note why a sample was skipped, with a warning the first time (once in each worker of a loader)."""
        if name not in self.dropped:
            self.dropped[name] = self.reason(error)
            warnings.warn(f"{self.data}: skipping {name}: {self.dropped[name]}", stacklevel=2)

    def reason(self, error: Exception) -> str:
        """Describe an error in one line."""
        return self._reader.reason(error)

    def no_usable_clip(self, dropped: dict[str, str]) -> ValueError:
        """Make the error that says that no clip is usable, with the first three reasons."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:3])
        return ValueError(f"data {str(self.data)!r}: none of its {len(self.names)} clips can be used: {reasons}")

    def _index(self, name: str) -> VideoIndex | Sequence[Path]:
        if name not in self._indices:
            if name not in self._members and (path := self._reader.find(name)).is_dir():
                self._indices[name] = find_images(path)
            else:
                with self._open(name) as file:
                    self._indices[name] = index_video(file)
        return self._indices[name]

    def _open(self, name: str) -> BinaryIO:
        return self._members[name].open() if name in self._members else open(self._reader.find(name), "rb")

    def _has_room(self, name: str) -> bool:
        if name in self._cached or name in self._damaged:
            return False
        used = sum(clip.nbytes for clip in self._cached.values())
        return used + self.length(name) * self.size**2 * 3 <= self.cache_gb * 1e9

    def _decode(self, name: str, indices: Sequence[int]) -> np.ndarray:
        index = self._index(name)
        if isinstance(index, VideoIndex):
            with self._open(name) as file:
                squares = {n: crop_square(image, self.size) for n, image in read_frames(file, index, indices)}
        else:
            squares = {n: crop_square(read_image(index[n]), self.size) for n in set(indices)}
        return np.stack([squares[n] for n in indices])


def _choose(clips: Sequence[Clip], hold_out: int, held_out: bool, data: str) -> dict[str, list[str]]:
    """Group clips by identity, and take the identities that are held out or the others."""
    groups: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        groups[clip.identity].append(clip.name)
    if not 0 <= hold_out < len(groups):
        raise ValueError(
            f"hold_out: expected 0 to {len(groups) - 1} of the {len(groups)} identities of {data!r}, got {hold_out}"
        )
    cut = len(groups) - hold_out
    identities = sorted(groups)
    return {identity: sorted(groups[identity]) for identity in (identities[cut:] if held_out else identities[:cut])}
