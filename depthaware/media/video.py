"""Video files, frame by frame with times and audio; memory does not grow with their length."""

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from .atomic import whole_file
from .audio import audio_muxer, clocked
from .color import rgb_images, square_size
from .container import open_video, video_stream
from .decoding import IncompleteError, decode
from .image import Image, find_images, read_image
from .scan import scan
from .timestamps import FrameClock, rising_packets, time_base


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
        size: (height, width), upright, in square pixels.
        rate: average frames per second, 0.01 to 1000.
        time_base: all times are multiples of it, in seconds.
        frames: how many, without those that turn out to be damaged.
        audio: audio codec, or None for silence.
        audio_copied: True if `write_video` copies the audio, False if it makes it AAC.
        timed: False if the times of the file are missing or absurd; its frames follow one another at `rate`.
        strict: see `read_video`.
    """

    path: Path
    images: tuple[Path, ...]
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    frames: int
    audio: str | None
    audio_copied: bool = False
    timed: bool = True
    strict: bool = False

    def __iter__(self) -> Iterator[Frame]:
        if self.images:
            return (Frame(read_image(image), i / self.rate) for i, image in enumerate(self.images))
        return _decode(self)


def read_video(path: str | Path, *, rate: float | Fraction = 25, strict: bool = False) -> Video:
    """Open a video: any container and codec that FFmpeg decodes, a folder of images, or a pattern (``%04d.png``).

    Frames come out upright, in square pixels, deinterlaced, in the colors of BT.709 video, with times that rise from 0;
    see the page "Videos". A file never makes FFmpeg open another file or an address, as playlists would.

    Args:
        path: file, folder or pattern. Images are read in natural order (2 before 10).
        rate: frames per second of an image sequence, and of a file that states none; others have their own.
        strict: refuse damaged and incomplete files. Without it damaged frames are left out, and a warning at the end
            tells how many.

    Raises:
        ValueError: if the file is unreadable, a single image, or has no frames.
    """
    if not 0.01 <= rate <= 1000:
        raise ValueError(f"rate: expected 0.01 to 1000 frames per second, got {rate}")
    path, rate = Path(path), Fraction(rate).limit_denominator(1001)
    if images := find_images(path):
        height, width, _ = read_image(images[0]).shape
        return Video(path, images, (height, width), rate, 1 / rate, len(images), None)
    with open_video(path) as container:
        found = scan(container, rate, strict)
    video = Video(path, (), (0, 0), *found, strict=strict)
    height, width, _ = next(_decode(video)).image.shape
    return replace(video, size=(height, width))


def _decode(video: Video) -> Iterator[Frame]:
    """Decode with threads up to the first damage, and from there again without, so that no other frame is lost."""
    count = lost = 0

    def give_up(error: av.FFmpegError) -> None:
        raise IncompleteError from error

    def leave_out(error: av.FFmpegError) -> None:
        nonlocal lost
        if video.strict:
            place = f"after {count} of {video.frames} frames"
            raise ValueError(f"{video.path}: is damaged {place} ({error.strerror})") from error
        lost += 1

    for damaged, threads in ((give_up, 0), (leave_out, 1)):
        with suppress(IncompleteError), open_video(video.path) as container:
            stream = video_stream(container)
            stream.thread_type, stream.codec_context.thread_count, size = "AUTO", threads, square_size(stream)
            clock = FrameClock(time_base(stream), 1 / video.rate, video.time_base, timed=video.timed)
            frames = map(clock, decode(stream, rising_packets(container, clocked(container)), damaged))
            for image, time in rgb_images(islice(frames, count, None), size):
                yield Frame(image, time)
                count += 1
            break
    if count == 0:
        raise ValueError(f"{video.path}: has no frames that can be decoded, {lost} are damaged")
    if lost:
        left_out = f"{lost} of {video.frames} frames are damaged and left out; those after them may be torn"
        warnings.warn(f"{video.path}: {left_out}", stacklevel=2)


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

    Raises:
        ValueError: if FFmpeg refuses the size or the times.
        OSError: if the disk is full.
    """
    base = time_base or 1 / rate
    odd = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
    pad = partial(np.pad, pad_width=odd, mode="edge") if np.any(odd) else np.ascontiguousarray
    with _naming(path), ExitStack() as stack:
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


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Raise FFmpeg's errors as one line with the name of the output, instead of that of its temporary file."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error
    except OverflowError as error:
        raise ValueError(f"{path}: cannot be written, it has times of more than 2^63 ticks") from error
