"""Decoded frames as RGB images: color matrix, range, high dynamic range, transparency, shape, fields, orientation."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, groupby
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace

from .tone_mapping import HDR, add_tone_mapping

_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})  # ITU-T H.273 table 4, as far as FFmpeg converts them to RGB
_WIDEST = 8


def square_size(stream: av.VideoStream) -> tuple[int, int]:
    """Size (height, width) of a stored frame in square pixels: its longer sides are divided, nothing is lost.

    The ratio that the container states counts before that of the codec. Ratios above 8 are taken for damage.
    """
    height, width = stream.height, stream.width
    ratio = stream.sample_aspect_ratio or Fraction(1)
    if 1 < ratio <= _WIDEST:
        width = round(width * ratio)
    elif 1 > ratio >= Fraction(1, _WIDEST):
        height = round(height / ratio)
    return height, width


def is_high_definition(height: int, width: int) -> bool:
    """Return True if players take the color matrix of a frame without a tag for BT.709, False for BT.601."""
    return height > 576 or width >= 1280


class _Kind(NamedTuple):
    """Whatever changes the conversion of a frame."""

    width: int
    height: int
    format: str
    matrix: int
    range: int
    hdr: int
    interlaced: bool

    @property
    def transparent(self) -> bool:
        format = av.VideoFormat(self.format)
        return format.has_palette or any(part.is_alpha for part in format.components)


def rgb_images(
    frames: Iterable[av.VideoFrame], size: tuple[int, int]
) -> Iterator[tuple[npt.NDArray[np.uint8], Fraction]]:
    """Convert the frames of a video, with FFmpeg's filters.

    The color matrix and range are those of the frame's tags. Without a tag the matrix is BT.709 for more than 576 rows
    or 1279 columns and BT.601 below, as players assume. PQ and HLG become BT.709, see `tone_map`. Of interlaced frames
    the lines of the second field are filled in by bwdif, because a face that moves is torn into combs otherwise.
    Transparency is laid over white.

    Args:
        frames: decoded, with times; of any pixel format, which may change, like the size.
        size: (height, width) of the stored frames in square pixels, see `square_size`.

    Yields:
        Image and time in seconds of each frame; (H, W, 3), RGB, upright: `size`, or its sides exchanged.
    """
    for kind, run in groupby(_with_kinds(frames), key=lambda pair: pair[0]):
        _, first = next(run)
        graph = _graph(first, kind, size)
        for frame in chain([first], (frame for _, frame in run), [None]):
            graph.vpush(frame)
            with suppress(av.BlockingIOError, av.EOFError):  # bwdif is one frame late
                made = graph.vpull()
                image = np.asarray(made.to_ndarray(), np.uint8)
                image = _upright(_over_white(image) if kind.transparent else image, made)
                yield image, Fraction(made.pts or 0) * (made.time_base or 0)


def _with_kinds(frames: Iterable[av.VideoFrame]) -> Iterator[tuple[_Kind, av.VideoFrame]]:
    """Complete the color tags of frames, and tell how they are converted."""
    interlaced = False
    for frame in frames:
        hdr = frame.color_trc if frame.color_trc in HDR else 0
        if frame.colorspace not in _MATRICES and not frame.format.is_rgb:
            high = is_high_definition(frame.height, frame.width)
            frame.colorspace = Colorspace.BT2020 if hdr else Colorspace.ITU709 if high else Colorspace.ITU601
        # Once there were interlaced frames, the filter sees the others too, which it leaves as they are.
        interlaced |= frame.interlaced_frame and not frame.format.is_rgb and min(frame.width, frame.height) >= 4
        shape = frame.width, frame.height, frame.format.name
        yield _Kind(*shape, frame.colorspace, frame.color_range, hdr, interlaced), frame


def _graph(frame: av.VideoFrame, kind: _Kind, size: tuple[int, int]) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 0 if kind.hdr else 1  # waking threads takes as long as converting a small frame
    base = frame.time_base or Fraction(1, av.time_base)
    source = f"video_size={kind.width}x{kind.height}:pix_fmt={kind.format}:time_base={base}"
    graph.link_nodes(
        graph.add("buffer", f"{source}:colorspace={kind.matrix}:range={kind.range}"),
        *([graph.add("bwdif", "mode=send_frame:deint=interlaced")] if kind.interlaced else []),
        graph.add("scale", f"{size[1]}:{size[0]}:flags=bicubic"),
        *([graph.add("format", "gbrp16le"), add_tone_mapping(graph, kind.hdr)] if kind.hdr else []),
        graph.add("format", "rgba" if kind.transparent else "rgb24"),
        graph.add("buffersink"),
    )
    graph.configure()
    return graph


def _over_white(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    alpha = image[..., 3:] / np.float32(255)
    return np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _upright(image: npt.NDArray[np.uint8], frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Rotate and mirror an image by its display matrix: x' = a x + c y, y' = b x + d y, each 0 or ±1."""
    try:
        side_data: Any = frame.side_data
        matrix = side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV cannot read it from frames with EXIF data, only the rotation
        matrix = None
    if matrix is None:
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
    a, b, _, c, d = np.sign(np.round(np.frombuffer(bytes(matrix), np.int32)[:5] / 2**16))
    if a == 0:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: int(b + d) or 1, :: int(a + c) or 1])
