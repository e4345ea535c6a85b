"""Expression transfer: opening of mouth and eyes, and its correlation between driving frames and results."""

from typing import NamedTuple

import torch
from torch import Tensor

from .inputs import pair

MOVING = {"mouth_opening": 0.03, "mouth_width": 0.03, "eye_opening": 0.05}
"""Standard deviation over a clip from which on a feature counts as moving."""
_RIGHT_EYE, _LEFT_EYE = range(36, 42), range(42, 48)  # of the person: in the left and the right of the image


class ExpressionTransfer(NamedTuple):
    """Relation of one feature of the expression in a result to that in the driving frames, over a clip.

    Attributes:
        correlation: Pearson's; in [-1, 1], 1 if the result moves with the driving frames, 0 if it does not move.
        slope: of the regression of the result on the driving frames; 1 if it moves as far, 0 if it does not move.
    """

    correlation: float
    slope: float


def mouth_opening(landmarks: Tensor) -> Tensor:
    """Gap between the inner lips (points 62 and 66), divided by the distance of the eyes.

    No unit; at least 0, about 0.05 for a closed mouth, as dlib's landmarks have it, and 0.5 for a wide open one.
    Note: the distance of the eyes shrinks when the head turns, so that turning changes the value a little.

    Args:
        landmarks: (B, 68, 2) in the order of iBUG 300-W, in any unit that is the same in x and y; NaN: no face.

    Returns:
        (B,), NaN where there is no face.

    Raises:
        ValueError: if the shape differs.
    """
    return _distance(landmarks, 62, 66) / _eye_distance(landmarks)


def mouth_width(landmarks: Tensor) -> Tensor:
    """Distance of the corners of the mouth (points 48 and 54), divided by that of the eyes; as `mouth_opening`.

    Args:
        landmarks: (B, 68, 2), see `mouth_opening`.

    Returns:
        (B,), NaN where there is no face.
    """
    return _distance(landmarks, 48, 54) / _eye_distance(landmarks)


def eye_opening(landmarks: Tensor) -> Tensor:
    """Eye aspect ratio, the mean of both eyes: mean of two heights between the lids, divided by the width of the eye.

    No unit; at least 0, about 0.1 for a closed eye and 0.3 for an open one.
    Note: an eye of 20 pixels is 6 pixels high, so that landmarks in whole pixels are too coarse for it.

    Args:
        landmarks: (B, 68, 2), see `mouth_opening`.

    Returns:
        (B,), NaN where there is no face.

    Reference:
        Soukupová and Čech 2016, Real-time eye blink detection using facial landmarks, eq. 1.
    """
    ratios = [
        (_distance(landmarks, i + 1, i + 5) + _distance(landmarks, i + 2, i + 4)) / (2 * _distance(landmarks, i, i + 3))
        for i in (_RIGHT_EYE[0], _LEFT_EYE[0])
    ]
    return (ratios[0] + ratios[1]) / 2


def expression_transfer(
    prediction: Tensor, target: Tensor, *, moving: float = 0.0, min_frames: int = 8
) -> ExpressionTransfer:
    """Correlation and slope of one feature (such as `mouth_opening`) between the results and driving frames of a clip.

    Frames without a value in one of the two are left out. Copying the source gives 0 and 0. The ceiling is what the
    driving frames give when they are found anew after video compression, since no detector is exact.
    Note: the correlation alone does not tell a mouth that opens a little from one that opens as wide: report both.

    Args:
        prediction: (T,) values in the results.
        target: (T,) values in the driving frames.
        moving: smallest standard deviation of the target, see `MOVING`; below it there is no transfer to measure.
        min_frames: fewest frames with a value in both.

    Returns:
        NaN both if the target does not move, or there are too few frames.

    Raises:
        ValueError: if the shapes differ.

    Reference:
        Pearson 1895; least squares.
    """
    prediction, target = pair(prediction, target, "T")
    known = prediction.isfinite() & target.isfinite()
    p, t = prediction[known].double(), target[known].double()
    if len(t) < max(min_frames, 2) or t.std(correction=0) < moving or (t == t[0]).all():
        return ExpressionTransfer(torch.nan, torch.nan)
    if (p == p[0]).all():
        return ExpressionTransfer(0.0, 0.0)
    p, t = p - p.mean(), t - t.mean()
    slope = (p @ t / (t @ t)).item()
    return ExpressionTransfer((p @ t / (p.norm() * t.norm())).clamp(-1, 1).item(), slope)


def _distance(landmarks: Tensor, i: int, j: int) -> Tensor:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks: expected (B, 68, 2), got {tuple(landmarks.shape)}")
    return (landmarks[:, i] - landmarks[:, j]).norm(dim=1)


def _eye_distance(landmarks: Tensor) -> Tensor:
    return (landmarks[:, _RIGHT_EYE].mean(1) - landmarks[:, _LEFT_EYE].mean(1)).norm(dim=1)
