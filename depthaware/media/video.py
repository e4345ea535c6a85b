"""Video files, frame by frame with times and audio; memory does not grow with their length."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .atomic import whole_file
from .audio import audio_codec, audio_muxer, start_time
from .image import Image, find_images, is_still, open_media, read_image, to_rgb


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Frame:
    """One frame of a video.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        time: presentation time, in seconds after the start.
    """

    image: Image
    time: Fraction


class OutputInfo(NamedTuple):
    """Summary of a written file.

    Attributes:
        path: of the file.
        frames: their number.
        size: (height, width) of each.
        rate: average frames per second, 0 for an image.
    """

    path: Path
    frames: int
    size: tuple[int, int]
    rate: Fraction

    def __str__(self) -> str:
        height, width = self.size
        if not self.rate:
            return f"{self.path}: {width} x {height}"
        return f"{self.path}: {self.frames} frames, {width} x {height}, {float(self.rate):.4g} fps"


Progress = Callable[[int, int], None]
"""Callback `progress(done, total)` with numbers of frames."""


@dataclass(frozen=True)
class Video:
    """A readable video; every `for frame in video` reads it from its start.

    Attributes:
        path: file, folder or pattern.
        images: files of an image sequence; empty for a video file.
        size: (height, width), upright.
        rate: average frames per second.
        time_base: all times are multiples of it, in seconds.
        frames: how many.
        audio: audio codec, or None for silence.
    """

    path: Path
    images: tuple[Path, ...]
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    frames: int
    audio: str | None

    def __iter__(self) -> Iterator[Frame]:
        if self.images:
            return (Frame(read_image(image), i / self.rate) for i, image in enumerate(self.images))
        return _decode(self.path, self.time_base)


def read_video(path: str | Path, *, rate: float | Fraction = 25) -> Video:
    """Open a video: mp4, mov, webm, mkv, avi, gif, a folder of images, or a pattern (``%04d.png``, ``*.png``).

    Args:
        path: file, folder or pattern. Images are read in natural order (2 before 10).
        rate: frames per second of an image sequence; video files have their own.

    Raises:
        ValueError: if the file is unreadable, cut short, a single image, or has no frames.
    """
    if not 0.01 <= rate <= 1000:
        raise ValueError(f"rate: expected 0.01 to 1000 frames per second, got {rate}")
    path = Path(path)
    if images := find_images(path):
        rate = Fraction(rate).limit_denominator(1001)
        height, width, _ = read_image(images[0]).shape
        return Video(path, images, (height, width), rate, 1 / rate, len(images), None)
    with open_media(path) as container:
        if is_still(container):
            raise ValueError(f"{path}: is a still image, expected a video, or a folder or pattern (*.png) of frames")
        stream = _video_stream(container)
        rate = stream.average_rate or stream.guessed_rate or Fraction(rate)
        time_base = stream.time_base or 1 / rate
        frames, audio = _count_frames(container, stream), audio_codec(container)
    height, width, _ = next(_decode(path, time_base)).image.shape
    return Video(path, (), (height, width), rate, time_base, frames, audio)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    covers = av.stream.Disposition.attached_pic  # cover art is no video
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        found = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise ValueError(f"{container.name}: has no video, only {found}")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _count_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Count frames without decoding, and raise ValueError for a file cut short before any heavy work."""
    count, end = 0, Fraction(0)
    for packet in container.demux():
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            count += packet.stream_index == stream.index and not packet.is_discard
            end = max(end, (time + (packet.duration or 0)) * (packet.time_base or Fraction(0)))
    duration = Fraction(container.duration or 0, av.time_base)
    if duration - (end - start_time(container)) > max(duration / 10, Fraction(1, 4)):
        raise ValueError(f"{container.name}: is cut short, {float(end):.1f} of {float(duration):.1f} seconds are there")
    return count


def _decode(path: Path, time_base: Fraction) -> Iterator[Frame]:
    with open_media(path) as container:
        stream = _video_stream(container)
        reformatter, earliest, count = VideoReformatter(), Fraction(0), 0
        for frame in container.decode(stream):
            pts = frame.dts if frame.pts is None else frame.pts
            # Broken files repeat or omit times; encoders require increasing ones.
            time = earliest if pts is None else max(pts * time_base - start_time(container), earliest)
            yield Frame(to_rgb(frame, reformatter), time)
            earliest, count = time + time_base, count + 1
    if count == 0:
        raise ValueError(f"{path}: has no frames")


@contextmanager
def write_video(
    path: str | Path,
    size: tuple[int, int],
    rate: Fraction,
    time_base: Fraction | None = None,
    *,
    audio: str | Path | None = None,
) -> Iterator[Callable[[Frame], None]]:
    """Write an mp4 (H.264), which gets its name only when it is complete.

    ```python
    with write_video("copy.mp4", video.size, video.rate, video.time_base, audio=video.path) as write:
        for frame in video:
            write(frame)
    ```

    Args:
        path: of the mp4.
        size: (height, width) of all frames; H.264 needs even sides, so odd ones are padded by one.
        rate: average frames per second.
        time_base: finest step between times, in seconds; 1 / rate if None.
        audio: file with the audio: copied packet by packet, or converted to AAC if few players support its codec.
    """
    base = time_base or 1 / rate
    odd = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
    pad = partial(np.pad, pad_width=odd, mode="edge") if np.any(odd) else np.ascontiguousarray
    with ExitStack() as stack:
        part = stack.enter_context(whole_file(path)).absolute()  # FFmpeg reads a relative "a:b" as an address
        output = stack.enter_context(av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}))
        stream = output.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = size[0] + odd[0][1], size[1] + odd[1][1], "yuv420p"
        stream.codec_context.time_base = base
        mux_audio = audio_muxer(output, audio)

        def write(frame: Frame) -> None:
            encoded = av.VideoFrame.from_ndarray(pad(frame.image), format="rgb24")
            encoded.pts, encoded.time_base = round(frame.time / base), base
            mux_audio(frame.time)
            output.mux(stream.encode(encoded))

        yield write
        mux_audio(None)
        output.mux(stream.encode(None))
