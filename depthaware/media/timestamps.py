"""Packets and frames of a file on one clock, which begins at 0 and always rises.

The rules are those of the ffmpeg program, so that image and sound stay together as they do there: the file's first
timestamp becomes 0; in formats that may be joined or wrap around (transport and program streams, Ogg) a jump
moves all that follows; a frame without a time follows the one before it at the average rate.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

JOINABLE = 0x0200
"""FFmpeg's flag of formats whose timestamps may jump, AVFMT_TS_DISCONT."""

TIMELESS = 0x0080
"""FFmpeg's flag of raw streams, whose timestamps are made up, AVFMT_NOTIMESTAMPS."""

JUMP = 10.0
BACK = 0.1
ABSURD = 30 * 3600.0
"""Seconds forwards and backwards from which on a timestamp is a jump, and from which on it is wrong in any format."""


def time_base(stream: av.VideoStream | av.AudioStream) -> Fraction:
    """Unit of the times in a stream, in seconds."""
    return stream.time_base or Fraction(1, av.time_base)


def start_time(container: av.container.InputContainer, streams: Sequence[av.VideoStream | av.AudioStream]) -> Fraction:
    """First timestamp in seconds, which becomes 0: of the file, or of these streams where others may be cut away."""
    starts = [stream.start_time * time_base(stream) for stream in streams if stream.start_time is not None]
    if container.format.flags & JOINABLE and starts:
        return min(starts)
    return Fraction(container.start_time or 0, av.time_base)


def rising_packets(
    container: av.container.InputContainer, streams: Sequence[av.VideoStream | av.AudioStream]
) -> Iterator[av.Packet]:
    """Read the packets of some streams in the order of the file, with times that begin at 0 and do not jump.

    Whatever is read of a file, `streams` must be the same, so that image and sound see the same jumps.

    Args:
        container: just opened.
        streams: all that belong to the result.

    Yields:
        Packets with data. Those of each stream rise in decoding time, but for small steps back.
    """
    offset = -start_time(container, streams)
    joinable = container.format.flags & JOINABLE
    bases = {stream.index: time_base(stream) for stream in streams}
    seconds = {index: float(base) for index, base in bases.items()}
    ticks = {index: round(offset / base) for index, base in bases.items()}
    last: dict[int, float] = {}
    due: dict[int, float] = {}  # of each stream's next packet
    newest = None
    for packet in container.demux(streams):
        if not packet.size:
            continue  # the last, empty ones mark the end of the file
        index = packet.stream_index
        if container.format.name == "avi":
            packet.pts = None  # AVI has none; FFmpeg made this up
        _shift(packet, ticks[index])
        if packet.dts is not None:
            time = packet.dts * seconds[index]
            expected = due.get(index, newest if joinable else time)
            late = 0.0 if expected is None else time - expected
            if joinable and (abs(late) > JUMP or time + BACK < last.get(index, time)):
                offset -= Fraction(late)
                _shift(packet, -round(Fraction(late) / bases[index]))
                ticks = {index: round(offset / base) for index, base in bases.items()}
                time -= late
            elif abs(late) > ABSURD:
                packet.dts = packet.pts = None
                time = expected or 0.0
            last[index] = newest = time
            due[index] = time + (packet.duration or 0) * seconds[index]
        yield packet


def _shift(packet: av.Packet, ticks: int) -> None:
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


class FrameClock:
    """Give each decoded frame of a video its time, later than that of the frame before.

    Of the two times of a frame, presentation and decoding, the one that fell back less often so far is taken, as
    libavcodec does: AVI files and some cameras have decoding times only.

    Args:
        base: unit of the times of decoded frames, in seconds.
        step: average time between frames, in seconds.
        tick: smallest time between frames, in seconds.
        timed: False to ignore the times of the file.
    """

    def __init__(self, base: Fraction, step: Fraction, tick: Fraction, *, timed: bool = True) -> None:
        self.base, self.step, self.tick, self.timed = base, step, tick, timed
        self._last = Fraction(-1)
        self._newest: list[int | None] = [None, None]  # presentation, decoding
        self._faults = [0, 0]

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Set the time of the next frame, in ticks."""
        stamp = self._stamp(frame) if self.timed else None
        following, earliest = self._last + self.step, self._last + self.tick
        if self._last < 0:  # the first frame
            following = earliest = Fraction(0)
        time = following if stamp is None else stamp * self.base
        frame.pts, frame.time_base = round(max(time, earliest) / self.tick), self.tick
        self._last = frame.pts * self.tick
        return frame

    def _stamp(self, frame: av.VideoFrame) -> int | None:
        for i, value in enumerate((frame.pts, frame.dts)):
            newest = self._newest[i]
            self._faults[i] += value is not None and newest is not None and value <= newest
            self._newest[i] = newest if value is None else value
        presented = frame.pts is not None and (self._faults[0] <= self._faults[1] or frame.dts is None)
        return frame.pts if presented else frame.dts
