"""Interlaced video as whole frames."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby

import av


def deinterlace(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Fill in the lines of the second field of each interlaced frame by FFmpeg's bwdif; the rest stays as it is.

    A face that moves is torn into combs otherwise. The number of frames and their times stay.

    Args:
        frames: decoded, with times.
    """
    frames = iter(frames)
    for frame in frames:
        if frame.interlaced_frame:
            yield from _filter(chain([frame], frames))
            return
        yield frame


def _filter(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for _, run in groupby(frames, key=lambda frame: (frame.width, frame.height, frame.format.name)):
        first = next(run)
        graph = _graph(first)
        for frame in chain([first], run, [None]):
            graph.vpush(frame)
            with suppress(av.BlockingIOError, av.EOFError):
                while True:
                    yield graph.vpull()


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph
