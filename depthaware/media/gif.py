"""Animated GIF files with one palette, so that nothing flickers and what stands still costs nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av

from .frame import Frame
from .leftovers import temporary

_TICK = Fraction(1, 100)  # of GIF
_SHORTEST = 2  # ticks; browsers show frames of less for ten


@contextmanager
def write_gif(part: Path, size: tuple[int, int]) -> Iterator[Callable[[Frame], None]]:
    """Write a GIF that repeats forever, in two passes, the first into a temporary file without loss beside it.

    Frames that follow in less than 0.02 s are left out, since no browser shows them so fast.

    Args:
        part: path of the file.
        size: (height, width) of all frames.
    """
    graph = av.filter.Graph()
    graph.link_nodes(_source(graph, size), graph.add("palettegen"), graph.add("buffersink")).configure()
    last = -_SHORTEST
    with temporary(part) as first:
        with av.open(str(first.absolute()), "w", format="nut") as output:
            stream = output.add_stream("libx264rgb", rate=1 / _TICK, options={"qp": "0", "preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = *size, "rgb24"

            def write(frame: Frame) -> None:
                nonlocal last
                if (ticks := round(frame.time / _TICK)) < last + _SHORTEST:
                    return
                image = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
                image.pts, image.time_base, last = ticks, _TICK, ticks
                graph.vpush(image)
                output.mux(stream.encode(image))

            yield write
            output.mux(stream.encode(None))
        graph.vpush(None)
        _paint(first, part, size, graph.vpull())


def _source(graph: av.filter.Graph, size: tuple[int, int], format: str = "rgb24") -> av.filter.context.FilterContext:
    height, width = size
    return graph.add_buffer(width=width, height=height, format=av.VideoFormat(format), time_base=_TICK)


def _paint(first: Path, part: Path, size: tuple[int, int], palette: av.VideoFrame) -> None:
    """Write the frames of a file in the colors of a palette."""
    graph = av.filter.Graph()
    use, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle"), graph.add("buffersink")
    source = _source(graph, size)
    colors = _source(graph, (palette.height, palette.width), palette.format.name)
    source.link_to(use, 0, 0)
    colors.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    palette.pts, palette.time_base = 0, _TICK
    colors.push(palette)
    colors.push(None)
    with av.open(str(first.absolute())) as frames, av.open(str(part.absolute()), "w", format="gif") as output:
        stream = output.add_stream("gif", rate=1 / _TICK)
        stream.height, stream.width, stream.pix_fmt = *size, "pal8"
        stream.codec_context.time_base = _TICK
        for frame in frames.decode(video=0):
            image = frame.reformat(format="rgb24")
            image.pts, image.time_base = round(Fraction(frame.pts or 0) * (frame.time_base or _TICK) / _TICK), _TICK
            source.push(image)
            for painted in _pull(sink):
                output.mux(stream.encode(painted))
        source.push(None)
        for painted in _pull(sink):
            output.mux(stream.encode(painted))
        output.mux(stream.encode(None))


def _pull(sink: av.filter.context.FilterContext) -> Iterator[av.VideoFrame]:
    with suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield cast(av.VideoFrame, sink.pull())
