"""Decoding that goes on past damage."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av

_ONE_TO_ONE = ("h264", "hevc")
"""Codecs with a frame for each packet; others have packets that are not shown."""


class IncompleteError(Exception):
    """Frames are missing that a decoder without threads may find."""


def decode(
    stream: av.VideoStream | av.AudioStream, packets: Iterable[av.Packet], damaged: Callable[[av.FFmpegError], None]
) -> Iterator[Any]:
    """Decode the packets of one stream; what cannot be read or decoded is reported and left out.

    Args:
        stream: of an open file.
        packets: its packets, and those of other streams, which are ignored.
        damaged: called with the error of each packet that cannot be decoded, and of a file that ends too early.

    Yields:
        Video or audio frames.

    Raises:
        IncompleteError: at the end, if a decoder with threads returned too few: PyAV drops those behind an error.
    """
    missing = 0
    try:
        for packet in packets:
            if packet.stream_index != stream.index:
                continue
            missing += not packet.is_discard
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                _report(error, damaged)
                continue
            missing -= len(frames)
            yield from frames
    except av.FFmpegError as error:  # of the container: nothing after it can be read
        _report(error, damaged)
    try:
        last = stream.decode(None)
    except av.EOFError:
        return
    except av.FFmpegError as error:
        _report(error, damaged)
        return
    yield from last
    context = stream.codec_context
    if missing > len(last) and context.thread_count != 1 and context.codec.canonical_name in _ONE_TO_ONE:
        raise IncompleteError


def _report(error: av.FFmpegError, damaged: Callable[[av.FFmpegError], None]) -> None:
    if isinstance(error, MemoryError):  # the file may be whole
        raise error
    damaged(error)
