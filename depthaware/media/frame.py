"""Frames of a video with their times, and what is told of a written file."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from .still import Image


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Frame:
    """One frame of a video.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        time: presentation time, in seconds after the start.
    """

    image: Image
    time: Fraction


class OutputInfo(NamedTuple):
    """Summary of a written file.

    Attributes:
        path: of the file.
        frames: their number.
        size: (height, width) of each.
        rate: average frames per second, 0 for an image.
    """

    path: Path
    frames: int
    size: tuple[int, int]
    rate: Fraction

    def __str__(self) -> str:
        height, width = self.size
        if not self.rate:
            return f"{self.path}: {width} x {height}"
        return f"{self.path}: {self.frames} frames, {width} x {height}, {float(self.rate):.4g} fps"


Progress = Callable[[int, int], None]
"""Callback `progress(done, total)` with numbers of frames."""
