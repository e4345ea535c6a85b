"""Key points over time: held where there is no face, and smoothed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter

import torch
from torch import Tensor

from ..faces.smoothing import OneEuro
from ..keypoints import Keypoints

HOLD, FADE, RETURN = 0.2, 1.0, 0.2  # seconds


class Hold:
    """Key points of a driving video with frames without a face: these hold the last ones, fading to the rest pose.

    The last key points stay for 0.2 seconds and reach the rest pose a second later, along half a cosine; those of a
    face that comes back are reached along another, within 0.2 seconds. Frames are given in order; a new scene, with its
    own rest pose, begins with a new `Hold`.

    Args:
        rest: (1, N, 2), the key points of the reference frame, which leave the source as it is.
    """

    def __init__(self, rest: Keypoints) -> None:
        self.rest = self._shown = self._from = rest
        self._found, self._since = True, -math.inf  # of the frame before, and when that began

    def __call__(self, keypoints: Keypoints, found: Sequence[bool], times: Sequence[float]) -> Keypoints:
        """Replace the key points of frames without a face.

        Args:
            keypoints: (B, N, 2) of consecutive frames; those of frames without a face are ignored.
            found: B times, True where there is a face.
            times: in seconds, rising.
        """
        rows = (_each(itemgetter(slice(i, i + 1)), keypoints) for i in range(len(times)))
        shown = [self._step(*frame) for frame in zip(rows, found, times, strict=True)]
        return _each(lambda *parts: torch.cat(parts), *shown) if shown else keypoints

    def _step(self, keypoints: Keypoints, found: bool, time: float) -> Keypoints:
        if found != self._found:
            self._found, self._since, self._from = found, time, self._shown
        seconds = time - self._since
        target, share = (keypoints, seconds / RETURN) if found else (self.rest, (seconds - HOLD) / FADE)
        self._shown = _each(lambda a, b: a.lerp(b, _ease(share)), self._from, target)
        return self._shown


def _ease(share: float) -> float:
    """Half a cosine from 0 at 0 to 1 at 1, constant outside."""
    return (1 - math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2


class KeypointSmoother:
    """One-Euro filter on key points and Jacobians; frames are given in order, a new scene begins with a new smoother.

    Args:
        min_cutoff: in Hz: lower is smoother while the face rests.
        beta: what the cutoff gains, in Hz per unit of speed (half an image a second): higher lags less in motion.

    Raises:
        ValueError: as in [`OneEuro`][depthaware.faces.smoothing.OneEuro].
    """

    def __init__(self, *, min_cutoff: float = 1.0, beta: float = 1.0) -> None:
        self._value, self._jacobian = OneEuro(min_cutoff, beta), OneEuro(min_cutoff, beta)

    def __call__(self, keypoints: Keypoints, times: Sequence[float]) -> Keypoints:
        """Smooth key points (B, N, 2) of B consecutive frames at their times in seconds."""
        if not times:
            return keypoints
        value = _filtered(self._value, keypoints.value, times)
        jacobian = keypoints.jacobian
        return Keypoints(value, None if jacobian is None else _filtered(self._jacobian, jacobian, times))


def _filtered(one_euro: OneEuro, samples: Tensor, times: Sequence[float]) -> Tensor:
    return torch.cat([one_euro(samples[i : i + 1], time) for i, time in enumerate(times)])


def _each(function: Callable[..., Tensor], *keypoints: Keypoints) -> Keypoints:
    jacobians = [kp.jacobian for kp in keypoints]
    value = function(*(kp.value for kp in keypoints))
    return Keypoints(value, None if jacobians[0] is None else function(*jacobians))
