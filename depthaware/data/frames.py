"""Frames of a video by number: indexed once without decoding, then had by seeking, with little decoded in vain."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO, NamedTuple

import av
from av.video.reformatter import VideoReformatter

from ..media.formats import VIDEO_FORMATS
from ..media.image import Image, to_rgb


class VideoIndex(NamedTuple):
    """What frames a video has.

    Attributes:
        times: of presentation, rising, in units of the stream; frame n is the one shown at times[n].
        keys: times of the frames at which decoding may begin; without any it begins with the file, and counts.
    """

    times: Sequence[int]
    keys: Sequence[int]


def index_video(file: BinaryIO) -> VideoIndex:
    """Find the frames of a video without decoding it.

    Raises:
        ValueError: if it is no video, or the file is cut short.
    """
    with _open(file) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        kind = container.format.name.partition(",")[0]
        told = stream.frames if kind == "mov" else 0
        if told > len(packets) or any(packet.is_corrupt for packet in packets):
            raise ValueError(f"is cut short, {len(packets)} of {told or 'its'} frames are there")
    shown = [packet for packet in packets if not packet.is_discard]
    times = sorted({packet.pts for packet in shown if packet.pts is not None})
    keys = sorted({packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None})
    if kind not in ("mov", "matroska") or len(times) < len(shown) or not keys:
        return VideoIndex(range(_count(file)), ())
    return VideoIndex(times, keys)


def _count(file: BinaryIO) -> int:
    with _open(file) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def read_frames(file: BinaryIO, index: VideoIndex, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """Number and picture of these frames, each once, in rising order.

    Raises:
        ValueError: if one of them cannot be decoded.
    """
    reformatter = VideoReformatter()
    with _open(file) as (container, stream):
        frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        shown = None
        for number in sorted(set(wanted)):
            key = _key_before(index, number)
            if shown is None or key > shown:
                frames = _decode_from(container, stream, index, key)
            shown = index.times[number]
            time, frame = next((pair for pair in frames if pair[0] >= shown), (None, None))
            if frame is None or time != shown or frame.is_corrupt:
                raise ValueError(f"frame {number} of {len(index.times)} cannot be decoded")
            yield number, to_rgb(frame, reformatter)


def _key_before(index: VideoIndex, number: int) -> int:
    place = bisect_right(index.keys, index.times[number]) - 1
    return index.keys[place] if place >= 0 else -1


def _decode_from(
    container: av.container.InputContainer, stream: av.VideoStream, index: VideoIndex, key: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Times and frames from a key frame on."""
    if not index.keys:
        yield from enumerate(container.decode(stream))
        return
    for goal in (key, index.keys[0]):  # where B-frames abound a container may jump too far
        container.seek(goal, stream=stream)
        packets = container.demux(stream)
        first = next(packets)
        if first.is_keyframe and first.pts is not None and first.pts <= key:
            break
    else:
        raise ValueError("cannot be sought in")
    for packet in chain([first], packets):
        yield from ((frame.pts, frame) for frame in packet.decode() if frame.pts is not None)


@contextmanager
def _open(file: BinaryIO) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    file.seek(0)
    try:
        with av.open(file, "r", metadata_errors="ignore", options={"format_whitelist": VIDEO_FORMATS}) as container:
            if not container.streams.video:
                raise ValueError("has no video")
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the loader's workers share the cores
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise ValueError("damaged, cut short, or not a video that can be read") from error
