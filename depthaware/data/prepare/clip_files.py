"""Clips on disk: H.264 with frequent key frames, which can be read at random places."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ...media.atomic import whole_file
from ...media.video import Frame
from .face_crops import Crop

KEY_FRAMES = 12  # distance between two of them: a random frame is decoded from the last one on
# One thread, and key frames at fixed places, so that the same frames always give the same bytes. With mbtree, x264
# encoded one small clip in fifty differently.
H264 = {"crf": "18", "g": str(KEY_FRAMES), "bf": "0", "sc_threshold": "0", "threads": "1", "mbtree": "0"}


class EncodedClip(NamedTuple):
    """Properties of a clip that was written.

    Attributes:
        frames: number of frames.
        rate: frames per second.
        motion: mean change of a pixel in a fifth of a second, in [0, 255].
    """

    frames: int
    rate: Fraction
    motion: float


def write_clip(
    path: Path, frames: Iterable[Frame], crop: Crop, *, size: int, rate: Fraction, fps: float
) -> EncodedClip:
    """Crop frames to a square and write them as an mp4 without sound, which appears once it is complete.

    Args:
        path: of the mp4.
        frames: of the source.
        crop: the square, in pixels of the source.
        size: side of the clip in pixels; even.
        rate: frames per second of the source.
        fps: frames per second to pick; 0, or more than the source has, takes all.
    """
    if 0 < fps < rate:
        rate = Fraction(fps).limit_denominator(1001)
        frames = pick_frames(frames, rate)
    motion = MeanMotion(max(1, round(rate / 5)))
    count = 0
    options = {"movflags": "faststart"}
    with whole_file(path) as part, av.open(str(part.absolute()), "w", format="mp4", options=options) as output:
        stream = output.add_stream("libx264", rate=rate, options=H264)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for count, frame in enumerate(frames, 1):
            square = frame.image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
            motion.update(square)
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(square), format="rgb24")
            image = image.reformat(width=size, height=size, format="yuv420p", interpolation="BICUBIC")
            image.pts, image.time_base = count - 1, 1 / rate
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
    return EncodedClip(count, rate, motion.mean)


def pick_frames(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """Drop frames until `rate` per second remain; none is repeated."""
    start, count = None, 0
    for frame in frames:
        start = frame.time if start is None else start
        if (frame.time - start) * rate >= count:
            yield frame
            count = int((frame.time - start) * rate) + 1


class MeanMotion:
    """Running mean of the change between frames that are `step` apart.

    Attributes:
        mean: mean absolute difference of the pixels, in [0, 255]; 0 before the second compared frame.
    """

    def __init__(self, step: int) -> None:
        self.step, self.count, self.changes = step, 0, [0.0]
        self.before: np.ndarray | None = None

    def update(self, image: np.ndarray) -> None:
        """Take the next frame, (H, W, 3) in [0, 255]; every `step`-th one is compared with the one before."""
        if self.count % self.step == 0:
            stride = max(1, len(image) // 64)
            small = image[::stride, ::stride].astype(np.float32)
            if self.before is not None:
                self.changes.append(float(np.abs(small - self.before).mean()))
            self.before = small
        self.count += 1

    @property
    def mean(self) -> float:
        """Mean of the changes."""
        return sum(self.changes) / max(1, len(self.changes) - 1)
