"""Clips on disk: H.264 that can be read at random places, and tar files of them for WebDataset."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ...media.atomic import whole_file
from ...media.video import Frame
from .face_crops import Crop

KEY_FRAMES = 12  # between two of them: a frame at random is decoded from the last one on
# One thread, and key frames at fixed places, so that the same frames always make the same bytes. With mbtree, x264 made
# others of small clips one time in fifty.
H264 = {"crf": "18", "g": str(KEY_FRAMES), "bf": "0", "sc_threshold": "0", "threads": "1", "mbtree": "0"}


class Encoded(NamedTuple):
    """A clip that was written.

    Attributes:
        frames: their number.
        rate: of frames a second.
        motion: mean change of a pixel in a fifth of a second, of 255.
    """

    frames: int
    rate: Fraction
    motion: float


def write_clip(path: Path, frames: Iterable[Frame], crop: Crop, *, size: int, rate: Fraction, fps: float) -> Encoded:
    """Cut a square out of frames, and write it as an mp4 without sound, which appears when it is complete.

    Args:
        path: of the mp4.
        frames: of the source.
        crop: the square.
        size: its side in the clip, in pixels; even.
        rate: of the source, in frames a second.
        fps: frames a second to pick; 0, or more than the source has, takes all.
    """
    if 0 < fps < rate:
        rate = Fraction(fps).limit_denominator(1001)
        frames = pick(frames, rate)
    motion = Motion(max(1, round(rate / 5)))
    count = 0
    options = {"movflags": "faststart"}
    with whole_file(path) as part, av.open(str(part.absolute()), "w", format="mp4", options=options) as output:
        stream = output.add_stream("libx264", rate=rate, options=H264)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for count, frame in enumerate(frames, 1):
            square = frame.image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
            motion.see(square)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(square), format="rgb24")
            picture = picture.reformat(width=size, height=size, format="yuv420p", interpolation="BICUBIC")
            picture.pts, picture.time_base = count - 1, 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return Encoded(count, rate, motion.mean)


def pick(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """Drop frames until there are `rate` a second; none is ever shown twice."""
    start, count = None, 0
    for frame in frames:
        start = frame.time if start is None else start
        if (frame.time - start) * rate >= count:
            yield frame
            count = int((frame.time - start) * rate) + 1


class Motion:
    """Mean change between pictures that are `step` apart."""

    def __init__(self, step: int) -> None:
        self.step, self.count, self.changes = step, 0, [0.0]
        self.before: np.ndarray | None = None

    def see(self, picture: np.ndarray) -> None:
        if self.count % self.step == 0:
            stride = max(1, len(picture) // 64)
            small = picture[::stride, ::stride].astype(np.float32)
            if self.before is not None:
                self.changes.append(float(np.abs(small - self.before).mean()))
            self.before = small
        self.count += 1

    @property
    def mean(self) -> float:
        return sum(self.changes) / max(1, len(self.changes) - 1)


class Sample(NamedTuple):
    """One clip of a shard: an mp4, and what its json says."""

    path: Path
    identity: str
    split: str
    frames: int
    source: str


def write_shards(folder: Path, samples: Sequence[Sample], megabytes: float) -> int:
    """Write 000000.tar, 000001.tar, ... of at most so many MB (a larger clip gets one alone); returns their number.

    The order is that of hashes of the names, so that a shard is a mixture of persons and always the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, shard in enumerate(_packed(samples, megabytes * 1e6), 1):
        with (
            whole_file(folder / f"{count - 1:06d}.tar") as part,
            tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for sample in shard:
                _add(tar, f"{sample.path.stem}.mp4", sample.path.read_bytes())
                _add(tar, f"{sample.path.stem}.json", _label(sample))
    for stale in folder.glob("*.tar"):
        if stale.stem.isdecimal() and int(stale.stem) >= count:
            stale.unlink()
    return count


def _packed(samples: Sequence[Sample], limit: float) -> Iterator[list[Sample]]:
    shard: list[Sample] = []
    room = limit - 2 * tarfile.RECORDSIZE
    for sample in sorted(samples, key=lambda sample: hashlib.sha256(sample.path.stem.encode()).digest()):
        need = _blocks(sample.path.stat().st_size) + _blocks(len(_label(sample)))
        if shard and need > room:
            yield shard
            shard, room = [], limit - 2 * tarfile.RECORDSIZE
        shard.append(sample)
        room -= need
    if shard:
        yield shard


def _label(sample: Sample) -> bytes:
    return json.dumps({key: getattr(sample, key) for key in ("identity", "split", "frames", "source")}).encode()


def _blocks(size: int) -> int:
    """Of a file in a tar: a header and whole blocks."""
    return tarfile.BLOCKSIZE * (1 - -size // tarfile.BLOCKSIZE)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time is 0, its owner nobody
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
