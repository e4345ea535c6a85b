"""Random access to the frames of a video: indexed once without decoding, then read by seeking."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..media.color import rgb_images, square_size
from ..media.container import open_container, video_stream
from ..media.decoding import decode
from ..media.image import Image
from ..media.video import read_video


class VideoIndex(NamedTuple):
    """Frames of a video and the places to seek to.

    Attributes:
        times: presentation times, increasing, in units of the stream; frame n is the one shown at times[n].
        keys: times of the key frames. If empty, decoding starts with the file and `times` are frame numbers.
    """

    times: Sequence[int]
    keys: Sequence[int]


def index_video(file: BinaryIO) -> VideoIndex:
    """Find the frames of a video without decoding it (except where its container has no times).

    Args:
        file: open for reading and seeking.

    Raises:
        ValueError: if it is not a video, or the file is cut short.
    """
    with _open(file) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        kind = container.format.name.partition(",")[0]
        declared = stream.frames if kind == "mov" else 0
        if declared > len(packets) or any(packet.is_corrupt for packet in packets[-1:]):
            raise ValueError(f"is cut short, {len(packets)} of {declared or 'its'} frames are there")
    shown = [packet for packet in packets if not packet.is_discard]
    times = sorted({packet.pts for packet in shown if packet.pts is not None})
    keys = sorted({packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None})
    if kind not in ("mov", "matroska") or len(times) < len(shown) or not keys:
        return VideoIndex(range(_count(file)), ())
    return VideoIndex(times, keys)


def _count(file: BinaryIO) -> int:
    with _open(file) as (container, stream):
        return sum(1 for _ in _decode_all(container, stream))


def _decode_all(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    def give_up(error: av.FFmpegError) -> NoReturn:
        raise error

    # Ogg has empty packets where a frame is shown twice.
    return decode(stream, (packet for packet in container.demux(stream) if packet.size), give_up)


def read_frames(file: BinaryIO, index: VideoIndex, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """Decode frames by number; of what lies between key frames only what they depend on is decoded.

    Their shape and colors are those of `read_video`.

    Args:
        file: open for reading and seeking.
        index: of the same file.
        wanted: frame numbers from 0, in any order.

    Yields:
        Number and image, uint8 (H, W, 3), of each wanted frame once, in increasing order.

    Raises:
        ValueError: if one of them cannot be decoded.
    """
    numbers = sorted(set(wanted))
    with _open(file) as (container, stream):
        images = rgb_images(_select(container, stream, index, numbers), square_size(stream))
        yield from zip(numbers, (image for image, _ in images), strict=True)


def _select(
    container: av.container.InputContainer, stream: av.VideoStream, index: VideoIndex, numbers: Sequence[int]
) -> Iterator[av.VideoFrame]:
    frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
    shown = None
    for number in numbers:
        key = _key_before(index, number)
        if shown is None or key > shown:
            frames = _decode_from(container, stream, index, key)
        shown = index.times[number]
        time, frame = next((pair for pair in frames if pair[0] >= shown), (None, None))
        if frame is None or time != shown or frame.is_corrupt:
            raise ValueError(f"frame {number} of {len(index.times)} cannot be decoded")
        yield frame


def _key_before(index: VideoIndex, number: int) -> int:
    """Time of the last key frame up to a frame; -1 if there is none."""
    place = bisect_right(index.keys, index.times[number]) - 1
    return index.keys[place] if place >= 0 else -1


def _decode_from(
    container: av.container.InputContainer, stream: av.VideoStream, index: VideoIndex, key: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield times and frames from a key frame on."""
    if not index.keys:
        yield from enumerate(_decode_all(container, stream))
        return
    for goal in (key, index.keys[0]):  # with many B-frames the container may seek too far
        container.seek(goal, stream=stream)
        packets = container.demux(stream)
        first = next(packets)
        if first.is_keyframe and first.pts is not None and first.pts <= key:
            break
    else:
        raise ValueError("cannot be seeked in")
    for packet in chain([first], packets):
        yield from ((frame.pts, frame) for frame in packet.decode() if frame.pts is not None)


@contextmanager
def _open(file: BinaryIO) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    file.seek(0)
    try:
        with open_container(file) as container:
            stream = video_stream(container)
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the loader's workers share the cores
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise ValueError("damaged, cut short, or not a video that can be read") from error


def crop_square(image: Image, size: int) -> np.ndarray:
    """Crop the central square of an image and area-average it to `size`.

    Args:
        image: uint8 (H, W, 3).
        size: side in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return crop
    frame = av.VideoFrame.from_ndarray(crop, format="rgb24")
    return VideoReformatter().reformat(frame, size, size, interpolation="AREA", threads=1).to_ndarray()


def read_clip(path: Path, size: int, every: int = 1) -> np.ndarray:
    """Decode a whole clip.

    Args:
        path: of a video.
        size: side of the frames in pixels.
        every: keep every n-th frame, from the first on.

    Returns:
        uint8 (T, size, size, 3).
    """
    frames = islice(read_video(path, strict=True), 0, None, every)
    return np.stack([crop_square(frame.image, size) for frame in frames])
