"""Losses that let mouth and eyes follow: some key points, and the motion, are guided by facial landmarks.

Landmarks come from any detector; rows that it left NaN (no face, a hidden point) count nothing. The indices below are
those of the 68 points of iBUG 300-W.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..warp import sample

GUIDES = ((48,), (54,), (62,), (66,), (37, 38), (40, 41), (43, 44), (46, 47), (30,), (8,))
"""Landmarks whose mean guides a key point: corners of the mouth, inner lips, lids of either eye, tip of nose, chin."""
GAPS = ((3, 2), (1, 0), (5, 4), (7, 6))
"""Pairs among `GUIDES`: opening and width of the mouth, either eye."""
GAP_WEIGHTS = (1.0, 1.0, 2.0, 2.0)  # the lids' gaps are smaller
OPPOSITE = ((66, 62), (65, 63), (67, 61), (54, 48), (41, 37), (40, 38), (47, 43), (46, 44))
"""Landmarks that the motion must keep apart: inner lips, corners of the mouth, lids."""
# Weight of the motion at each landmark; of the outline little, since a turning head hides it.
_MOTION = torch.cat([torch.full((n,), w) for n, w in ((17, 0.3), (19, 1.0), (12, 3.0), (12, 2.0), (8, 3.0))])
# Parts for `region_weights`: landmarks, and half-axes in units of the distance between the eyes.
_REGIONS = ((range(48, 68), 0.55, 0.42), (range(36, 42), 0.34, 0.25), (range(42, 48), 0.34, 0.25))


def guide_points(landmarks: Tensor, guides: Sequence[Sequence[int]] = GUIDES) -> Tensor:
    """Targets of guided key points: the mean of each group of landmarks.

    Args:
        landmarks: (B, L, 2) in [-1, 1].
        guides: indices of the landmarks of each of G points.

    Returns:
        (B, G, 2).
    """
    return torch.stack([landmarks[:, list(group)].mean(1) for group in guides], dim=1)


def guided_keypoint_loss(
    value: Tensor, target: Tensor, *, points: Sequence[int] | None = None, beta: float = 0.02
) -> Tensor:
    """Smooth L1 distance of some key points to the places that are known for them.

    Args:
        value: (B, N, 2), key points in [-1, 1].
        target: (B, G, 2) in [-1, 1], such as `guide_points` of any landmarks; NaN where unknown.
        points: G indices of the guided key points; the first G if None. The other key points stay free.
        beta: distance in one coordinate below which the loss is quadratic.

    Returns:
        A scalar, the mean over what is known; 0 if nothing is.

    Raises:
        ValueError: if there are fewer key points than targets, or `points` are not as many.

    Reference:
        Guo et al. 2024, LivePortrait, section 3.2, guides implicit key points likewise.
    """
    points = range(target.shape[1]) if points is None else points
    if len(points) != target.shape[1] or max(points) >= value.shape[1]:
        raise ValueError(f"expected {target.shape[1]} of the {value.shape[1]} key points, got {list(points)}")
    return _known_mean(value[:, list(points)], target, beta)


def expression_gap_loss(
    value: Tensor,
    target: Tensor,
    *,
    gaps: Sequence[tuple[int, int]] = GAPS,
    weights: Sequence[float] = GAP_WEIGHTS,
    beta: float = 0.01,
) -> Tensor:
    """Smooth L1 error of the vectors between pairs of points: opening and width of the mouth, opening of the eyes.

    These are small beside the error of a point's place, so that `guided_keypoint_loss` alone neglects them.

    Args:
        value: (B, G, 2), guided key points in [-1, 1], in the order of the targets.
        target: (B, G, 2), see `guided_keypoint_loss`.
        gaps: pairs of indices among G.
        weights: factor on each gap, before the loss.
        beta: as in `guided_keypoint_loss`.

    Returns:
        A scalar, the mean over what is known; 0 if nothing is.
    """
    ends, starts = torch.tensor(gaps, device=value.device).T
    scale = value.new_tensor(weights)[:, None]
    value, target = (scale * (points[:, ends] - points[:, starts]) for points in (value, target))
    return _known_mean(value, target, beta)


def guided_motion_loss(
    deformation: Tensor,
    landmarks_source: Tensor,
    landmarks_driving: Tensor,
    *,
    weights: Tensor | None = None,
    opposite: Sequence[tuple[int, int]] = OPPOSITE,
    beta: float = 0.02,
) -> Tensor:
    """Smooth L1 error of the dense motion: at a landmark of the driving frame it points to that of the source.

    Gives the motion network a direct gradient where pixels hardly do, and keeps lips and lids apart.

    Args:
        deformation: (B, h, w, 2), the backward map of `DenseMotion`.
        landmarks_source: (B, L, 2) in [-1, 1]; NaN where unknown.
        landmarks_driving: likewise. Landmarks outside of the image count nothing.
        weights: (L,) of the landmarks; if None, mouth and eyes weigh most, the outline of the face least (of 68).
        opposite: pairs of landmarks whose difference counts as well, with the same weight as all places together.
        beta: as in `guided_keypoint_loss`.

    Returns:
        A scalar; 0 if nothing is known.

    Raises:
        ValueError: if `weights` are not as many as landmarks.
    """
    weights = (_MOTION if weights is None else weights).to(deformation)
    if len(weights) != landmarks_driving.shape[1]:
        raise ValueError(f"weights: expected {landmarks_driving.shape[1]}, one of each landmark, got {len(weights)}")
    inside = (landmarks_driving.abs() < 1).all(-1, keepdim=True)  # False for NaN
    places = torch.where(inside, landmarks_driving, 0)[:, None].to(deformation)
    found = sample(deformation.permute(0, 3, 1, 2), places, padding_mode="border")[:, :, 0].transpose(1, 2)
    target = torch.where(inside, landmarks_source.to(deformation), torch.nan)
    loss = _known_mean(found, target, beta, weights[:, None])
    if not opposite:
        return loss
    ends, starts = torch.tensor(opposite, device=deformation.device).T
    return loss + _known_mean(found[:, ends] - found[:, starts], target[:, ends] - target[:, starts], beta)


def region_weights(landmarks: Tensor, size: Sequence[int], *, gain: float = 12.0) -> Tensor:
    """Weights of pixels that are higher around mouth and eyes, which are 2 % of the pixels of a crop.

    Args:
        landmarks: (B, 68, 2) in [-1, 1] in the order of iBUG 300-W; NaN: no face.
        size: (H, W).
        gain: height of the bumps; two that meet add up.

    Returns:
        (B, 1, H, W), 1 far from mouth and eyes and where there is no face, about 1 + `gain` at their centers.

    Raises:
        ValueError: if the shape differs.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks: expected (B, 68, 2), got {tuple(landmarks.shape)}")
    y, x = (torch.linspace(-1, 1, n, dtype=landmarks.dtype, device=landmarks.device) for n in size)
    eyes = (landmarks[:, 36:42].mean(1) - landmarks[:, 42:48].mean(1)).norm(dim=-1)[:, None]
    bumps = landmarks.new_zeros(len(landmarks), *size)
    for part, width, height in _REGIONS:
        center = landmarks[:, list(part)].mean(1)
        across = torch.exp(-((x - center[:, :1]) / (width * eyes)).square())
        down = torch.exp(-((y - center[:, 1:]) / (height * eyes)).square())
        bumps += down[:, :, None] * across[:, None]
    return 1 + gain * bumps.nan_to_num(0)[:, None]


def _known_mean(value: Tensor, target: Tensor, beta: float, weights: Tensor | None = None) -> Tensor:
    """Weighted mean of the smooth L1 error over the points whose target is finite."""
    if value.shape != target.shape:
        raise ValueError(f"expected points of one shape, got {tuple(value.shape)} and {tuple(target.shape)}")
    known = target.isfinite().all(-1, keepdim=True)
    error = F.smooth_l1_loss(value, torch.where(known, target, 0).to(value), reduction="none", beta=beta)
    factors = (known if weights is None else known * weights).to(value).expand_as(error)
    return (error * factors).sum() / factors.sum().clamp_min(1e-6)
