"""Key points over time: held where there is no face, and smoothed."""

from __future__ import annotations

from collections.abc import Sequence

from ..keypoints import Keypoints


class Hold:
    """Key points of a driving video with frames without a face: these hold the last ones, fading to the rest pose.

    The last key points stay for 0.2 seconds and go to the rest pose by 1.2 seconds; a face that comes back is reached
    within 0.2 seconds. Call it frame by frame in order; `rest` of a new scene starts anew.

    Args:
        rest: (1, N, 2), the key points of the reference frame, which leave the source as it is.
    """

    def __init__(self, rest: Keypoints) -> None:
        raise NotImplementedError

    def __call__(self, keypoints: Keypoints, found: Sequence[bool], times: Sequence[float]) -> Keypoints:
        """Replace the key points of frames without a face.

        Args:
            keypoints: (B, N, 2) of consecutive frames, those of frames without a face are ignored.
            found: B times, True where there is a face.
            times: in seconds, rising.
        """
        raise NotImplementedError


class KeypointSmoother:
    """One-Euro filter on key points and Jacobians, frame by frame in order; `reset` it at a scene cut.

    Args:
        min_cutoff: in Hz: lower is smoother while the face rests.
        beta: in Hz per unit of speed: higher lags less while it moves.

    Reference: Casiez et al. 2012, 1 € filter.
    """

    def __init__(self, *, min_cutoff: float = 1.0, beta: float = 1.0) -> None:
        raise NotImplementedError

    def __call__(self, keypoints: Keypoints, times: Sequence[float]) -> Keypoints:
        """Smooth key points (B, N, 2) of B consecutive frames at their times in seconds."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the past."""
        raise NotImplementedError
