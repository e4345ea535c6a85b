"""Animated WebP, which FFmpeg does not decode, as a file that it does."""

import io
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from PIL import Image, ImageSequence

MILLISECOND = Fraction(1, 1000)


def is_animated_webp(head: bytes) -> bool:
    """Return True for the first 21 bytes of a WebP file with the animation flag."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:21] and head[20] & 2)


def unpack(file: BinaryIO) -> io.BytesIO:
    """Decode the frames, and write them without loss to a NUT file in memory.

    Args:
        file: animated WebP.

    Raises:
        OSError: if it is damaged.
    """
    unpacked, time = io.BytesIO(), 0
    with Image.open(file) as image, av.open(unpacked, "w", format="nut") as output:
        stream = output.add_stream("ffv1")
        stream.width, stream.height = image.size
        stream.pix_fmt = "bgra"
        stream.codec_context.time_base = MILLISECOND
        for picture in ImageSequence.Iterator(image):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGBA")), format="rgba")
            frame.pts, frame.time_base = time, MILLISECOND
            output.mux(stream.encode(frame))
            time += max(int(picture.info.get("duration", 0)), 1)
        output.mux(stream.encode(None))
    unpacked.name = file.name  # type: ignore[attr-defined]  # for messages
    return unpacked
