"""Video files written frame by frame; the suffix chooses the container."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from .atomic import whole_file, whole_folder
from .audio import audio_muxer
from .color import is_high_definition
from .formats import QUALITY, choose_codec
from .frame import Frame
from .gif import write_gif
from .image import write_image
from .provenance import claim, mark_gif, mark_webp

Write = Callable[[Frame], None]

_ENCODERS = {
    "h264": ("libx264", "yuv420p"),
    "hevc": ("libx265", "yuv420p"),
    "av1": ("libsvtav1", "yuv420p"),
    "vp9": ("libvpx-vp9", "yuv420p"),
    "prores": ("prores_ks", "yuv422p10le"),
    "webp": ("libwebp_anim", "yuv420p"),
}
_CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "faststart"}),
    ".mov": ("mov", {"movflags": "faststart"}),
    ".webm": ("webm", {}),
    ".webp": ("webp", {"loop": "0"}),
}


def _options(codec: str, quality: int) -> dict[str, str]:
    """Options of the encoder; the qualities of different codecs look alike."""
    loss = 100 - quality
    return {
        "h264": {"crf": f"{12 + 0.24 * loss:.0f}"},
        "hevc": {"crf": f"{14 + 0.24 * loss:.0f}", "preset": "fast", "x265-params": "log-level=error", "tag": "hvc1"},
        "av1": {"crf": f"{15 + 0.45 * loss:.0f}", "preset": "8"},
        "vp9": {"crf": f"{12 + 0.45 * loss:.0f}", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        "prores": {"profile": "hq"},
        "webp": {"quality": str(quality)},
    }[codec]


@contextmanager
def write_video(
    path: str | Path,
    size: tuple[int, int],
    rate: Fraction,
    time_base: Fraction | None = None,
    *,
    audio: str | Path | None = None,
    audio_end: Fraction | None = None,
    codec: str | None = None,
    quality: int | None = None,
    generated: bool = False,
) -> Iterator[Write]:
    """Write a video, which gets its name only when it is complete.

    ```python
    with write_video("copy.mp4", video.size, video.rate, video.time_base, audio=video.path) as write:
        for frame in video:
            write(frame)
    ```

    Args:
        path: ends in .mp4, .mov, .webm, or for loops without sound in .gif or .webp; or a pattern such as
            frames/%04d.png of a folder of images, which is made if absent, and numbered from 0.
        size: (height, width) of all frames; most codecs need even sides, so odd ones are padded by one.
        rate: average frames per second.
        time_base: finest step between times, in seconds; 1 / rate if None.
        audio: file with the audio: copied packet by packet, or converted to AAC, in WebM to Opus, if few players
            support its codec there.
        audio_end: time at which the audio ends at the latest, in seconds.
        codec: h264, hevc or av1 in mp4; h264, hevc or prores in mov; vp9 or av1 in webm; the first if None.
        quality: 1 to 100; 75 if None.
        generated: state in the file that it is, see `depthaware.media.provenance`.

    Raises:
        ValueError: if the suffix has no such codec, or FFmpeg refuses the size or the times.
        OSError: if the disk is full.
    """
    path, base, frames = Path(path), time_base or 1 / rate, 0
    codec, sound = choose_codec(path, codec, quality), (audio, audio_end)
    with _naming(path), _open(path, codec, quality, size, rate, base, sound, generated) as write:

        def write_counted(frame: Frame) -> None:
            nonlocal frames
            write(frame)
            frames += 1

        yield write_counted
        if not frames:
            raise ValueError(f"{path}: cannot be written, there are no frames")


@contextmanager
def _open(
    path: Path,
    codec: str,
    quality: int | None,
    size: tuple[int, int],
    rate: Fraction,
    base: Fraction,
    sound: tuple[str | Path | None, Fraction | None],
    generated: bool,
) -> Iterator[Write]:
    if codec == "png":
        with _write_images(path, generated) as write:
            yield write
        return
    with whole_file(path) as part:
        if codec == "gif":
            with write_gif(part, size) as write:
                yield write
            if generated:
                mark_gif(part)
            return
        with _encode(part.absolute(), path.suffix.lower(), codec, quality, size, rate, base) as (output, write):
            if generated:
                output.metadata["comment"] = claim()
            audio, audio_end = sound
            mux_audio = audio_muxer(output, audio)

            def write_both(frame: Frame) -> None:
                mux_audio(frame.time)
                write(frame)

            yield write_both
            mux_audio(audio_end)
        if generated and codec == "webp":
            mark_webp(part)


@contextmanager
def _encode(
    part: Path, suffix: str, codec: str, quality: int | None, size: tuple[int, int], rate: Fraction, base: Fraction
) -> Iterator[tuple[av.container.OutputContainer, Write]]:
    """Open an output, which takes other streams until its first frame is written."""
    encoder, pixels = _ENCODERS[codec]
    container, options = _CONTAINERS[suffix]
    os.environ.setdefault("SVT_LOG", "1")  # libsvtav1 prints its settings otherwise
    odd = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
    pad = partial(np.pad, pad_width=odd, mode="edge") if np.any(odd) else np.ascontiguousarray
    matrix = Colorspace.ITU709 if is_high_definition(*size) else Colorspace.ITU601
    with av.open(str(part), "w", format=container, options=options) as output:  # a relative "a:b" would be an address
        stream = output.add_stream(encoder, rate=rate, options=_options(codec, QUALITY if quality is None else quality))
        stream.height, stream.width, stream.pix_fmt = size[0] + odd[0][1], size[1] + odd[1][1], pixels
        stream.codec_context.time_base = base
        if codec == "hevc":
            stream.codec_context.codec_tag = "hvc1"  # Apple's players know no other

        def write(frame: Frame) -> None:
            image = av.VideoFrame.from_ndarray(pad(frame.image), format="rgb24")
            encoded = image.reformat(format=pixels, dst_colorspace=matrix)
            encoded.pts, encoded.time_base = round(frame.time / base), base
            output.mux(stream.encode(encoded))

        yield output, write
        output.mux(stream.encode(None))


@contextmanager
def _write_images(pattern: Path, generated: bool) -> Iterator[Write]:
    """Write the frames as PNG files, which appear together at the end."""
    with whole_folder(pattern.parent, last="") as folder:
        count = 0

        def write(frame: Frame) -> None:
            nonlocal count
            write_image(folder / (pattern.name % count), frame.image, generated=generated)
            count += 1

        yield write


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Raise FFmpeg's errors as one line with the name of the output, instead of that of its temporary file."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error
    except OverflowError as error:
        raise ValueError(f"{path}: cannot be written, it has times of more than 2^63 ticks") from error
