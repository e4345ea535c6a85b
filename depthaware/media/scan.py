"""Facts about a video file that are known before its frames are decoded."""

import warnings
from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple

import av

from .audio import clocked, is_copied
from .container import audio_stream, is_still, video_stream
from .timestamps import JOINABLE, TIMELESS, rising_packets, time_base

MIN_RATE, MAX_RATE = Fraction(1, 100), Fraction(1000)
"""Frame rates that are believed, in frames per second."""

FINEST = Fraction(1, 1_000_000)
"""Finest step between times, in seconds."""


class Scan(NamedTuple):
    """Attributes of `Video` of the same names."""

    rate: Fraction
    time_base: Fraction
    frames: int
    audio: str | None
    audio_copied: bool
    timed: bool


def scan(container: av.container.InputContainer, rate: Fraction, strict: bool) -> Scan:
    """Read all packets of a file without decoding them.

    Args:
        container: just opened.
        rate: frames per second if the file states none that can be believed.
        strict: refuse a file that is shorter than it states, instead of warning.

    Raises:
        ValueError: if it is a still image, or has no video.
    """
    stream, sound = video_stream(container), audio_stream(container)
    if sound is None and container.streams.audio:
        warnings.warn(f"{container.name}: the codec of its sound is unknown, so there is none", stacklevel=3)
    frames, times, end = _read_packets(container, stream)
    if is_still(container, frames):
        expected = "expected a video, or a folder or pattern (*.png) of frames"
        raise ValueError(f"{container.name}: is a still image, {expected}")
    different = len(set(times))
    measured = Fraction(len(times) - 1) / (max(times) - min(times)) if different > 1 else Fraction(0)
    measured = measured.limit_denominator(1_000_000)  # FFmpeg's fractions have 32 bits
    timed = different * 2 >= len(times) > 0 and measured <= MAX_RATE and not container.format.flags & TIMELESS
    if timed and not container.format.flags & JOINABLE:  # those state no length
        _check_length(container, end, strict)
    rates = [stream.average_rate, stream.guessed_rate, measured]
    believed = [value for value in (rates if timed else rates[1:]) if value and MIN_RATE <= value <= MAX_RATE]
    rate = believed[0] if believed else rate
    return Scan(
        rate,
        max(time_base(stream), FINEST) if timed else 1 / rate,
        frames,
        sound.codec_context.codec.canonical_name if sound else None,
        sound is not None and is_copied(sound),
        timed,
    )


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[int, list[Fraction], Fraction]:
    """Count the frames of a stream; return their number, their times, and the end of the file, in seconds."""
    frames, times, end = 0, [], Fraction(0)
    with suppress(av.FFmpegError):  # is reported where the frames are decoded
        for packet in rising_packets(container, clocked(container)):
            shown = packet.stream_index == stream.index and not packet.is_discard
            frames += shown
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None and packet.time_base:
                end = max(end, (ticks + (packet.duration or 0)) * packet.time_base)
                times += [ticks * packet.time_base] * shown
    return frames, times, end


def _check_length(container: av.container.InputContainer, end: Fraction, strict: bool) -> None:
    stated = Fraction(container.duration or 0, av.time_base)
    if stated - end > max(stated / 10, Fraction(1, 4)):
        short = f"{container.name}: is cut short, {float(end):.1f} of {float(stated):.1f} seconds are there"
        if strict:
            raise ValueError(short)
        warnings.warn(short, stacklevel=4)
