"""Metrics of motion over time: trembling, and the delay that a filter against it costs."""

import numpy as np
import torch
from torch import Tensor

_FRAMES = torch.arange(-2, 3, dtype=torch.float64)
_QUADRATIC = torch.stack((_FRAMES**0, _FRAMES, _FRAMES**2), dim=1)  # (5, 3)
_RESIDUAL = -torch.linalg.pinv(_QUADRATIC)[0]  # of the middle one: (3, -12, -17, -12, 3) / 35 and 1
_RESIDUAL[2] += 1


def tremor(points: Tensor, size: float | Tensor) -> Tensor:
    """Trembling of points: the part of their motion that no smooth motion explains.

    For each frame, the distance of each point from the parabola in time fitted by least squares to its five frames
    around that one, root mean square over the points, over the size of the face:
    sqrt(mean_n |p_n[t] - parabola_n(t)|²) / size. Constant speed and constant acceleration give 0. Lower is steadier.
    No unit; at least 0.
    Note: it contains the noise of the detector of the points. Every filter lowers it and delays the motion: compare
    filters at equal `delay`. Compare at one frame rate, and not across cuts.

    Args:
        points: (T, N, 2) of consecutive frames.
        size: of the face, in the unit of the points.

    Returns:
        (T-4,), one value per frame with two neighbors on both sides; (0,) for fewer than five frames.

    Raises:
        ValueError: if the shape differs.
    """
    _check(points, "points")
    if len(points) < 5:
        return points.new_zeros(0)
    rest = torch.einsum("tndk,k->tnd", points.double().unfold(0, 5, 1), _RESIDUAL.to(points.device))
    return (rest.square().sum(2).mean(1).sqrt() / size).to(points.dtype)


def delay(prediction: Tensor, target: Tensor, *, longest: float = 10) -> float:
    """Time by which the motion of `prediction` is behind that of `target`.

    It is the d from 0 to `longest`, in steps of 0.05 frames, with the least squared difference of prediction[t] and
    target[t - d], interpolated linearly, over all points and all frames t from `longest` on. In frames.

    Args:
        prediction: (T, N, 2), such as filtered points.
        target: likewise, such as the points before the filter.
        longest: delay that is looked for, in frames.

    Returns:
        NaN for videos that are not longer than `longest`, or without motion.

    Raises:
        ValueError: if the shapes differ.
    """
    for name, points in (("prediction", prediction), ("target", target)):
        _check(points, name)
    if prediction.shape != target.shape:
        raise ValueError(f"expected equal shapes, got {tuple(prediction.shape)} and {tuple(target.shape)}")
    start = int(np.ceil(longest))
    if len(target) <= start + 1 or float((target[1:] - target[:-1]).abs().max()) == 0:
        return float("nan")
    times = torch.arange(start, len(target), dtype=torch.float64)

    def difference(frames: float) -> float:
        before = (times - frames).floor().long().clamp(0, len(target) - 2)
        share = (times - frames - before)[:, None, None].to(target)
        delayed = target[before] + share * (target[before + 1] - target[before])
        return float((prediction[start:] - delayed).double().square().mean())

    return float(min(np.arange(0, longest + 1e-9, 0.05), key=difference))


def _check(points: Tensor, name: str) -> None:
    if points.ndim != 3 or points.shape[2] != 2:
        raise ValueError(f"{name}: expected (T, N, 2), got {tuple(points.shape)}")
