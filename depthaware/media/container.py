"""Video files opened safely: every container that FFmpeg reads, but never another file or an address."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import av
from av.stream import Disposition

from .animation import decodable
from .signatures import check_regular, found_in

S = TypeVar("S", av.VideoStream, av.AudioStream)

# Formats that open other files or addresses, that take any bytes for frames, or that show text as a video. The first
# kind is also stopped by `protocol_whitelist` and `io_open` below, should FFmpeg gain one that is not named here.
DENIED = {
    *("hls", "dash", "imf", "concat", "concatf", "sdp", "rtsp", "rtp", "sap", "webm_dash_manifest", "smoothstreaming"),
    *("image2", "image2pipe", "vobsub", "avisynth", "vapoursynth", "bluray", "dvdvideo", "lavfi"),
    *("rawvideo", "v210", "v210x", "bitpacked", "fbdev", "x11grab", "kmsgrab", "v4l2", "video4linux2"),
    *("tty", "bin", "xbin", "adf", "idf", "ffmetadata"),
}

MAX_PIXELS = 2**26
"""Largest size of frames that are decoded, 8192 x 8192; several of them are in memory at a time."""

_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_EXPECTED = "expected a video that FFmpeg decodes (mp4, mov, mkv, webm, avi, ts, mpg, flv, wmv, ogv, gif, ...)"


@cache
def _readable() -> str:
    return ",".join(name for name in sorted(av.formats_available) if not DENIED & {*name.split(",")})


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise PermissionError("a video may not open other files")


@contextmanager
def open_video(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a video file; nothing that it names is opened, on the disk or in the network.

    Args:
        path: a regular file of any name; what it is is read from its content.

    Raises:
        ValueError: in one line that says what was found, if it cannot be read.
    """
    path = Path(path)
    check_regular(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    with open(path, "rb") as file:
        try:
            container = open_container(file)
        except MemoryError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ValueError(f"{path}: {_refusal(found_in(path))}, {_EXPECTED}") from error
        with container:
            try:
                yield container
            except MemoryError:
                raise
            except (av.FFmpegError, OSError) as error:
                raise ValueError(f"{path}: damaged, or not a video that can be read ({error.strerror})") from error


def open_container(file: BinaryIO) -> av.container.InputContainer:
    """Open a video in a file, at its start, or in memory, as `open_video` does; raise the errors of FFmpeg."""
    options = {"format_whitelist": _readable(), "protocol_whitelist": "none"}
    return av.open(decodable(file), "r", metadata_errors="ignore", options=options, io_open=_refuse)


def _refusal(found: str) -> str:
    if found.endswith(("image", "video", "sound", "kind")):
        return "damaged, cut short, or of an unknown format"
    return f"is {found}"


def is_still(container: av.container.InputContainer, frames: int) -> bool:
    """Return True for image files, AVIF and HEIC among them, False for videos and animations.

    Args:
        container: an open file.
        frames: number of its frames. Motion JPEG has many of them; a photo may have a second one, its gain map.
    """
    if container.metadata.get("major_brand", "") in ("avif", "heic", "heix", "mif1"):
        return frames <= 1
    return container.format.name.endswith("_pipe") and frames <= 2


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Choose the video that a player shows: no cover art; the default one; the largest.

    Raises:
        ValueError: if there is none, with what there is.
    """
    shown = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if stream := _best(shown):
        _check_size(container.name, stream)
        return stream
    found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    if shown:
        found = "a video of an unknown codec"
    raise ValueError(f"{container.name}: has no video that can be decoded, only {found}")


def _check_size(name: str, stream: av.VideoStream) -> None:
    """Refuse frames that would take gigabytes, stated at the start or reached later on."""
    if stream.width * stream.height > MAX_PIXELS:
        size = f"{stream.width} x {stream.height} pixels"
        raise ValueError(f"{name}: has frames of {size}, expected at most {MAX_PIXELS} pixels")
    if not stream.codec_context.is_open:
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


def has_video(container: av.container.InputContainer) -> bool:
    """Return True if there is a video besides cover art."""
    return any(not stream.disposition & _COVERS for stream in container.streams.video)


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Choose the default audio track, the first one if none is marked; None if there is none that can be decoded."""
    return _best(container.streams.audio)


def _best(streams: Sequence[S]) -> S | None:
    known = [stream for stream in streams if stream.codec_context is not None]
    return max(known, key=_preference, default=None)  # the first of equal ones


def _preference(stream: av.VideoStream | av.AudioStream) -> tuple[bool, bool, int]:
    """Prefer more than one frame (an animated AVIF begins with a still of itself), the default, the largest."""
    size = stream.width * stream.height if isinstance(stream, av.VideoStream) else 0
    return stream.frames != 1, bool(stream.disposition & Disposition.default), size
