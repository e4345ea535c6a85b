"""Decoding that goes on past damage."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av


def decode(
    stream: av.VideoStream | av.AudioStream, packets: Iterable[av.Packet], damaged: Callable[[Exception], None]
) -> Iterator[Any]:
    """Decode the packets of one stream; what cannot be read or decoded is reported and left out.

    Args:
        stream: of an open file.
        packets: its packets, and those of other streams, which are ignored.
        damaged: called with the error of each packet that cannot be decoded, and of a file that ends too early.

    Yields:
        Video or audio frames.
    """
    mine = (packet for packet in packets if packet.stream_index == stream.index)
    try:
        for packet in mine:
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                damaged(error)
            else:
                yield from frames
    except av.FFmpegError as error:  # of the container: nothing after it can be read
        damaged(error)
    try:
        yield from stream.decode(None)
    except av.EOFError:
        return
    except av.FFmpegError as error:
        damaged(error)
