"""Decoded frames as RGB images: color matrix, range, high dynamic range, transparency, pixel shape, orientation."""

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter

HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
"""Transfer characteristics of high dynamic range: PQ and HLG."""

_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})  # ITU-T H.273 table 4, as far as FFmpeg converts them to RGB
_WIDEST = 8


def square_size(stream: av.VideoStream) -> tuple[int, int]:
    """Size (height, width) of a stored frame in square pixels: its longer pixels are divided, none is lost.

    The ratio that the container states counts before that of the codec. Ratios above 8 are taken for damage.
    """
    height, width = stream.height, stream.width
    ratio = stream.sample_aspect_ratio or Fraction(1)
    if ratio > 1 and ratio <= _WIDEST:
        width = round(width * ratio)
    elif ratio < 1 and ratio * _WIDEST >= 1:
        height = round(height / ratio)
    return height, width


def to_rgb(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    """Convert a decoded frame of a video.

    The color matrix and range are those of the frame's tags. Without a tag the matrix is BT.709 for more than 576 rows
    or 1279 columns and BT.601 below, as players assume. PQ and HLG are mapped to BT.709 by FFmpeg's swscale:
    a curve that leaves shadows and skin as they are and compresses the highlights above them, in ICtCp, then a mapping
    of BT.2020 colors into BT.709. Transparency is laid over white.

    Args:
        frame: of any pixel format.
        size: (height, width) of the stored frame in square pixels, see `square_size`.
        reformatter: one for all frames of a video; creating one takes ten times as long as using it.

    Returns:
        (H, W, 3), RGB, upright: `size`, or its sides exchanged.
    """
    transparent = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    options = _tag(frame) | {"format": "rgba" if transparent else "rgb24"}
    if size != (frame.height, frame.width):
        options |= {"height": size[0], "width": size[1], "interpolation": Interpolation.BICUBIC}
    image = reformatter.reformat(frame, **options).to_ndarray()
    if transparent:
        alpha = image[..., 3:] / 255
        image = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return _upright(image, frame)


def _tag(frame: av.VideoFrame) -> dict[str, Any]:
    """Complete the color tags of a frame, and return the options of its conversion."""
    hdr = frame.color_trc in HDR
    if frame.colorspace not in _MATRICES:
        high = frame.height > 576 or frame.width >= 1280
        frame.colorspace = Colorspace.BT2020 if hdr else Colorspace.ITU709 if high else Colorspace.ITU601
    if not hdr:
        return {}
    if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
        frame.color_primaries = ColorPrimaries.BT2020
    return {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}


def _upright(image: npt.NDArray[Any], frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
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
