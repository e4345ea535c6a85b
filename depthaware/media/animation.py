"""Animations that FFmpeg does not decode, or takes for one frame, as files that it does."""

import io
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from PIL import Image, ImageSequence

MILLISECOND = Fraction(1, 1000)
_UNSTATED = 100  # milliseconds that a frame without a duration is shown, as browsers and FFmpeg do
_GIF_CONTROL = b"\x21\xf9\x04"  # begins the block before a frame that tells its duration, at which FFmpeg parts frames


def decodable(file: BinaryIO) -> BinaryIO:
    """Unpack animated WebP, and GIF whose frames state no duration, to memory; leave other files as they are.

    Args:
        file: of any kind, at its start.

    Returns:
        At its start.

    Raises:
        ValueError: if it is damaged.
    """
    head = file.read(21)
    file.seek(0)
    try:
        if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:] and head[20] & 2:
            return _unpack(file)
        if head[:4] == b"GIF8":
            controls = _count(file, _GIF_CONTROL)
            with Image.open(file) as image:
                if image.n_frames > max(controls, 1):  # type: ignore[attr-defined]
                    return _unpack(file)
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise nearly any type
        if head[:4] != b"GIF8":  # of those FFmpeg reads what is there
            raise ValueError(f"is damaged ({error})") from error
    file.seek(0)
    return file


def _count(file: BinaryIO, word: bytes) -> int:
    """Count a word in a file of any length."""
    count, tail = 0, b""
    while part := file.read(1 << 20):
        count += (tail + part).count(word)
        tail = (tail + part)[1 - len(word) :]
    return count


def _unpack(file: BinaryIO) -> io.BytesIO:
    """Write the frames without loss to a NUT file in memory."""
    unpacked, time = io.BytesIO(), 0
    with Image.open(file) as image, av.open(unpacked, "w", format="nut") as output:
        stream = output.add_stream("ffv1", rate=1 / MILLISECOND)  # so fine that FFmpeg finds the average by itself
        stream.width, stream.height = image.size
        stream.pix_fmt = "bgra"
        for picture in ImageSequence.Iterator(image):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGBA")), format="rgba")
            frame.pts, frame.time_base = time, MILLISECOND
            output.mux(stream.encode(frame))
            time += int(picture.info.get("duration", 0)) or _UNSTATED
        output.mux(stream.encode(None))
    unpacked.name = getattr(file, "name", "")  # type: ignore[attr-defined]  # for messages
    unpacked.seek(0)
    return unpacked
