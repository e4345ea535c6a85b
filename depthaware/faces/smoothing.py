"""One-Euro filter: strong smoothing at rest, little lag in motion."""

from __future__ import annotations

import math
from typing import Any


class OneEuro:
    """First-order low-pass filter whose cutoff rises with the speed of its input, coordinate by coordinate.

    Takes samples in order, at any times; a slow frame rate needs no other parameters than a fast one.

    Args:
        min_cutoff: in Hz, at rest: lower is smoother.
        beta: what the cutoff gains, in Hz per unit of speed: higher lags less in motion.
        speed_cutoff: in Hz, of the filter of the speed itself.

    Raises:
        ValueError: if a cutoff is not positive or `beta` negative.

    Reference:
        Casiez, Roussel and Vogel 2012, 1 € filter: a simple speed-based low-pass filter for noisy input.
    """

    def __init__(self, min_cutoff: float, beta: float, *, speed_cutoff: float = 1.0) -> None:
        if not (min_cutoff > 0 and beta >= 0 and speed_cutoff > 0):
            given = f"min_cutoff={min_cutoff}, beta={beta}, speed_cutoff={speed_cutoff}"
            raise ValueError(f"One-Euro filter: expected positive cutoffs and beta from 0, got {given}")
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._time, self._value, self._speed = -math.inf, None, 0.0

    def __call__(self, value: Any, time: float) -> Any:
        """Filter the next sample: a float, array or tensor of always the same shape, at `time` in seconds.

        A sample at the time of the last one, or before it, changes nothing.
        """
        if self._value is None:
            self._time, self._value = time, value
        elif time > self._time:
            step = time - self._time
            speed = (value - self._value) / step
            self._speed = self._speed + _weight(self.speed_cutoff, step) * (speed - self._speed)
            cutoff = self.min_cutoff + self.beta * abs(self._speed)
            self._time, self._value = time, self._value + _weight(cutoff, step) * (value - self._value)
        return self._value


def _weight(cutoff: Any, step: float) -> Any:
    """Weight of a new sample in an exponential average with a cutoff in Hz."""
    ratio = 2 * math.pi * cutoff * step
    return ratio / (ratio + 1)
