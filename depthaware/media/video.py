"""Video files, frame by frame with times and audio; memory does not grow with their length."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from .audio import clocked
from .color import rgb_images, square_size
from .container import open_video, video_stream
from .decoding import IncompleteError, decode
from .frame import Frame as Frame
from .frame import OutputInfo as OutputInfo
from .frame import Progress as Progress
from .image import find_images, read_image
from .memory import needing_memory
from .scan import scan
from .timestamps import FrameClock, rising_packets, time_base
from .writing import write_video as write_video


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
            with needing_memory(f"{video.path}: frames of {stream.width} x {stream.height} pixels"):
                for image, time in rgb_images(islice(frames, count, None), size):
                    yield Frame(image, time)
                    count += 1
            break
    if count == 0:
        raise ValueError(f"{video.path}: has no frames that can be decoded, {lost} are damaged")
    if lost:
        left_out = f"{lost} of {video.frames} frames are damaged and left out; those after them may be torn"
        warnings.warn(f"{video.path}: {left_out}", stacklevel=2)
