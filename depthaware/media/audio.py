"""Audio of one file in another: copied packet by packet, or made AAC."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from typing import cast

import av

from .container import audio_stream, has_video, open_video, video_stream
from .decoding import decode
from .timestamps import rising_packets, time_base

# What common players accept in a container; FFmpeg would write PCM and Vorbis to mp4 too, which few players support.
COPIED = {
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"}),
    "webm": frozenset({"opus", "vorbis"}),
}
_MADE = {"mp4": ("aac", 1024), "mov": ("aac", 1024), "webm": ("libopus", 960)}  # encoder, samples of a packet

RATE = 48000
"""Samples per second of sound that is converted, which is stereo."""


def clocked(container: av.container.InputContainer) -> list[av.VideoStream | av.AudioStream]:
    """Streams that share one clock: the video and the audio that are read, as far as there are any."""
    audio = audio_stream(container)
    return [*([video_stream(container)] if has_video(container) else []), *([audio] if audio else [])]


def sound_in(path: str | Path, suffix: str) -> str:
    """Describe what becomes of the sound of a file in a video of that suffix: "sound copied".

    Raises:
        ValueError: if the file has none, or cannot be read.
    """
    with open_video(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise ValueError(f"{path}: has no sound that can be decoded")
        if is_copied(stream, suffix[1:]):
            return "sound copied"
        made = "AAC" if _MADE[suffix[1:]][0] == "aac" else "Opus"
        return f"sound {stream.codec_context.codec.canonical_name} made {made}"


def is_copied(stream: av.AudioStream, container: str = "mp4") -> bool:
    """Return True if players accept the codec in mp4, mov or webm, and FFmpeg this kind of it (no MP3 of 8 kHz)."""
    if stream.codec_context.codec.canonical_name not in COPIED[container]:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def audio_muxer(output: av.container.OutputContainer, path: str | Path | None) -> Callable[[Fraction | None], None]:
    """Copy the default audio of a file: unchanged if `is_copied`, converted to AAC or Opus otherwise.

    Args:
        output: mp4, mov or webm without any packets so far.
        path: file with the audio, or None for silence.

    Returns:
        A function that writes the audio up to a time in seconds (None: all of it), so that memory does not grow.
    """
    packets = iter(()) if path is None else _packets(path, output)
    pending = next(packets, None)  # adds the stream, which must exist before the first frame is written

    def mux(until: Fraction | None) -> None:
        nonlocal pending
        while pending and (until is None or (pending.dts or 0) * (pending.time_base or 0) <= until):
            with suppress(av.InvalidDataError, av.ArgumentError):  # of a damaged packet
                output.mux(pending)
            pending = next(packets, None)

    return mux


def _packets(path: str | Path, output: av.container.OutputContainer) -> Iterator[av.Packet]:
    with open_video(path) as container:
        source = audio_stream(container)
        if source is None:
            return
        packets = rising_packets(container, clocked(container))
        mine = (packet for packet in packets if packet.stream_index == source.index)
        if is_copied(source, output.format.name):
            yield from _copy(mine, output.add_stream_from_template(source))
        else:
            frames, (encoder, samples) = decode(source, mine, lambda _: None), _MADE[output.format.name]
            stream = cast(av.AudioStream, output.add_stream(encoder, RATE, layout="stereo"))
            yield from _convert(frames, time_base(source), stream, samples)


def _copy(packets: Iterator[av.Packet], stream: av.AudioStream) -> Iterator[av.Packet]:
    last, end = -math.inf, -math.inf
    for packet in packets:
        packet.pts = packet.dts if packet.pts is None else packet.pts
        packet.dts = packet.pts if packet.dts is None else packet.dts
        if packet.dts is None:
            continue
        # Where files were joined, the sound of the first may reach into that of the second.
        if packet.dts <= last or packet.dts < end - (packet.duration or 0) / 2:
            continue
        last, end = packet.dts, packet.dts + (packet.duration or 0)
        packet.stream = stream
        yield packet


def _convert(
    frames: Iterator[av.AudioFrame], base: Fraction, stream: av.AudioStream, samples: int
) -> Iterator[av.Packet]:
    for frame in _resample(frames, base, samples):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _resample(frames: Iterator[av.AudioFrame], base: Fraction, samples: int) -> Iterator[av.AudioFrame]:
    """Make stereo of the same rate of frames that may change in the middle of a file; fill gaps with silence."""
    done = 0
    for _, run in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        first = next(run)
        graph = _resampler(first, base, done, samples)
        for frame in chain([first], run, [None]):
            for part in _push(graph, frame):
                done += part.samples
                yield part


def _resampler(frame: av.AudioFrame, base: Fraction, start: int, samples: int) -> av.filter.Graph:
    """Make a filter for frames like this one, whose first sample is number `start` of the result."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=base)
    graph.link_nodes(
        source,
        graph.add("aresample", f"{RATE}:async=1:first_pts={start}"),
        graph.add("aformat", "sample_fmts=fltp:channel_layouts=stereo"),
        graph.add("asetnsamples", f"n={samples}:p=0"),
        graph.add("abuffersink"),
    )
    graph.configure()
    return graph


def _push(graph: av.filter.Graph, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
    graph.push(frame)
    with suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield cast(av.AudioFrame, graph.pull())
