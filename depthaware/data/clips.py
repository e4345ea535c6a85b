"""Training clips: their frames by name and number, as squares, out of memory or by seeking in the file."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..evaluation import Clip, ClipReader, list_clips
from ..media.image import Image, find_images, read_image, to_rgb
from .frames import VideoIndex, index_video, read_frames
from .shards import Shards, find_shards, index_shards

LOOKED_AT = 1000  # clips before a run begins; each takes some milliseconds


def square(image: Image, size: int) -> np.ndarray:
    """The central square of a picture, area-averaged to `size`."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return crop
    frame = av.VideoFrame.from_ndarray(crop, format="rgb24")
    return VideoReformatter().reformat(frame, size, size, interpolation="AREA", threads=1).to_ndarray()


def read_clip(path: Path, size: int, every: int = 1) -> np.ndarray:
    """Every `every`-th frame of a clip: (T, size, size, 3) uint8."""
    reformatter = VideoReformatter()
    with av.open(path) as container:
        frames = enumerate(container.decode(video=0))
        return np.stack([square(to_rgb(frame, reformatter), size) for i, frame in frames if i % every == 0])


class Clips:
    """Clips of one split: frames by name.

    A clip is decoded whole into memory when it is first wanted, while there is room; frames of the others are read by
    seeking to the key frame before them, so prepare large data with many key frames (``-g 12 -bf 0``). Samples come
    at random, and so nothing is gained by throwing clips out for others. Both ways give the same frames.

    Args:
        data: folder as `depthaware.evaluation.list_clips` takes it: videos, folders of frames, or manifest.csv. Or
            WebDataset's tars, see `index_shards`: a folder of them, or a pattern like ``shards/*.tar``. It may be any
            URL that fsspec knows (``https://``, ``s3://``, ...); then each clip is fetched as a range of bytes.
        size: side of the frames.
        split: of the manifest, if there is one.
        hold_out: leave out this many identities (the last by name), to validate on.
        held_out: take those identities instead of the others.
        cache_gb: memory for decoded clips, per process.

    Attributes:
        names: of the clips, sorted.
        by_identity: the names of each identity's clips, both sorted.
        dropped: clip -> why a sample from it had to be skipped.

    Raises:
        ValueError: if there are no clips, or too few identities to hold out so many.
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
        self._footage = ClipReader(data, size)
        shards = find_shards(data)
        clips, self._members = index_shards(shards, split) if shards else Shards(list_clips(data, split), {})
        self.by_identity = _choose(clips, hold_out, held_out, str(data))
        self.names = sorted(name for names in self.by_identity.values() for name in names)
        self.dropped: dict[str, str] = {}
        self._indices: dict[str, VideoIndex | Sequence[Path]] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._broken: set[str] = set()

    def check(self, least: int = 2) -> dict[str, str]:
        """Look once into every clip, without decoding, and return `dropped`: those with less than `least` frames too.

        Of many clips only `LOOKED_AT`, evenly spread, and of those on a server none: a run should begin at once, and
        skips the others when it meets them.

        Raises:
            ValueError: if none is left.
        """
        if any("://" in member.url for member in self._members.values()):
            return self.dropped
        for name in self.names[:: -(-len(self.names) // LOOKED_AT)]:
            try:
                self.expect(name, least)
            except (ValueError, OSError) as error:
                self.dropped[name] = self.reason(error)
        if len(self.dropped) == len(self.names):
            raise self.nothing_left(self.dropped)
        return self.dropped

    def length(self, name: str) -> int:
        """Number of frames of a clip."""
        index = self._index(name)
        return len(index.times if isinstance(index, VideoIndex) else index)

    def expect(self, name: str, least: int) -> int:
        """The length of a clip, which must be at least this many frames."""
        length = self.length(name)
        if length < least:
            raise ValueError(f"has {length} frame{'s' * (length != 1)}, expected at least {least}")
        return length

    def read(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Frames of a clip: (n, size, size, 3) uint8.

        Raises:
            ValueError: if there are no such frames, or they cannot be decoded.
        """
        length = self.length(name)
        if bad := [n for n in indices if not 0 <= n < length]:
            raise ValueError(f"{name}: has {length} frames, expected one of number {bad[0]}")
        if self._has_room(name):
            try:
                self._kept[name] = self._decode(name, range(length))
            except ValueError:  # some frame of it is damaged: perhaps none of those wanted
                self._broken.add(name)
        if name in self._kept:
            return self._kept[name][list(indices)]
        return self._decode(name, indices)

    def drop(self, name: str, error: Exception) -> None:
        """Note why a sample was skipped, and say so the first time: a loader's workers keep their own notes."""
        if name not in self.dropped:
            self.dropped[name] = self.reason(error)
            warnings.warn(f"{self.data}: skipping {name}: {self.dropped[name]}", stacklevel=2)

    def reason(self, error: Exception) -> str:
        """What went wrong, in one line."""
        return self._footage.reason(error)

    def nothing_left(self, dropped: dict[str, str]) -> ValueError:
        """The error for when no clip can be used."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:3])
        return ValueError(f"data {str(self.data)!r}: none of its {len(self.names)} clips can be used: {reasons}")

    def _index(self, name: str) -> VideoIndex | Sequence[Path]:
        if name not in self._indices:
            if name not in self._members and (path := self._footage.find(name)).is_dir():
                self._indices[name] = find_images(path)
            else:
                with self._open(name) as file:
                    self._indices[name] = index_video(file)
        return self._indices[name]

    def _open(self, name: str) -> BinaryIO:
        return self._members[name].open() if name in self._members else open(self._footage.find(name), "rb")

    def _has_room(self, name: str) -> bool:
        if name in self._kept or name in self._broken:
            return False
        used = sum(clip.nbytes for clip in self._kept.values())
        return used + self.length(name) * self.size**2 * 3 <= self.cache_gb * 1e9

    def _decode(self, name: str, indices: Sequence[int]) -> np.ndarray:
        index = self._index(name)
        if isinstance(index, VideoIndex):
            with self._open(name) as file:
                squares = {n: square(image, self.size) for n, image in read_frames(file, index, indices)}
        else:
            squares = {n: square(read_image(index[n]), self.size) for n in set(indices)}
        return np.stack([squares[n] for n in indices])


def _choose(clips: Sequence[Clip], hold_out: int, held_out: bool, data: str) -> dict[str, list[str]]:
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
