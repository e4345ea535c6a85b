"""Audio copied from one file to another, packet by packet."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av

from .image import open_media

# What common players accept inside mp4; FFmpeg would write PCM and Vorbis too, which few players support.
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"})


def start_time(container: av.container.InputContainer) -> Fraction:
    """First timestamp of the file in seconds, not 0 in transport streams."""
    return max(Fraction(container.start_time or 0, av.time_base), Fraction(0))


def audio_codec(container: av.container.InputContainer) -> str | None:
    """Codec of the first audio stream ("aac"), or None."""
    streams = container.streams.audio
    return streams[0].codec_context.codec.canonical_name if streams else None


def audio_muxer(output: av.container.OutputContainer, path: str | Path | None) -> Callable[[Fraction | None], None]:
    """Copy the audio of a file: unchanged if its codec is in `COPIED`, converted to AAC otherwise.

    Args:
        output: mp4 without any packets so far.
        path: file with the audio, or None for silence.

    Returns:
        A function that writes the audio up to a time in seconds (None: all of it), so that memory does not grow.
    """
    packets = iter(()) if path is None else _packets(path, output)
    pending = next(packets, None)  # adds the stream, which must exist before the first frame is written

    def mux(until: Fraction | None) -> None:
        nonlocal pending
        while pending and (until is None or (pending.dts or 0) * (pending.time_base or 0) <= until):
            output.mux(pending)
            pending = next(packets, None)

    return mux


def _packets(path: str | Path, output: av.container.OutputContainer) -> Iterator[av.Packet]:
    with open_media(path) as container:
        if audio_codec(container) in COPIED:
            yield from _copy(container, output)
        else:
            yield from _convert(container, output)


def _copy(container: av.container.InputContainer, output: av.container.OutputContainer) -> Iterator[av.Packet]:
    source = container.streams.audio[0]
    stream = output.add_stream_from_template(source)
    for packet in container.demux(source):
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue  # the last, empty packet marks the end of the file
        late = round(start_time(container) / packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - late, packet.dts - late, stream
        yield packet


def _convert(container: av.container.InputContainer, output: av.container.OutputContainer) -> Iterator[av.Packet]:
    stream = output.add_stream("aac", rate=48000, layout="stereo")
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48000, frame_size=1024)
    for frame in chain(container.decode(audio=0), [None]):
        if frame and frame.pts is not None and frame.time_base:
            frame.pts -= round(start_time(container) / frame.time_base)
        for resampled in resampler.resample(frame):
            yield from stream.encode(resampled)
    yield from stream.encode(None)
