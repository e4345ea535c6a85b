"""Depth metrics: up to scale, and up to any increasing function."""

from collections.abc import Callable

import torch
from torch import Tensor

from .inputs import pair


def median_scale(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scale a prediction by median(target) / median(prediction), with medians over the mask.

    Depth learned from video alone is determined up to one factor per image.

    Args:
        prediction: (B, 1, H, W) depth > 0.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.

    Returns:
        (B, 1, H, W)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Zhou et al. 2017.
    """
    factors = _per_sample(_median_ratio, prediction, target, mask)
    return prediction * factors.view(-1, 1, 1, 1)


def abs_rel(prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, scale: bool = True) -> Tensor:
    """Mean relative error: mean over pixels of |prediction - target| / target.

    Lower is better. No unit; at least 0.
    Note: the scale is fitted per image, so consistency of the scale over a video is not measured. The background counts
    like the face; mask it where only the face matters.

    Args:
        prediction: (B, 1, H, W) depth > 0, not disparity.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.
        scale: scale the prediction to the median of the target first, see `median_scale`.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Eigen et al. 2014.
    """
    return _per_sample(lambda p, t: ((p - t).abs() / t).mean(), prediction, target, mask, scale=scale)


def depth_rmse(prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, scale: bool = True) -> Tensor:
    """Root mean squared error: root of the mean over pixels of (prediction - target)².

    Lower is better. In the unit of the target; at least 0.
    Note: distant pixels dominate the value. Otherwise as `abs_rel`.

    Args:
        prediction: (B, 1, H, W) depth > 0, not disparity.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.
        scale: scale the prediction to the median of the target first, see `median_scale`.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Eigen et al. 2014.
    """
    return _per_sample(lambda p, t: (p - t).square().mean().sqrt(), prediction, target, mask, scale=scale)


def delta(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = 1.25, scale: bool = True
) -> Tensor:
    """Fraction of pixels with max(prediction / target, target / prediction) < threshold.

    Higher is better. No unit; in [0, 1].
    Note: 1.25 was chosen for rooms and streets. A head is about 20 cm deep at a distance of 1 m, so that a plane passes
    at all of its pixels. Choose a threshold closer to 1, or use `spearman`.

    Args:
        prediction: (B, 1, H, W) depth > 0, not disparity.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.
        threshold: above 1.
        scale: scale the prediction to the median of the target first, see `median_scale`.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Eigen et al. 2014.
    """

    def share(p: Tensor, t: Tensor) -> Tensor:
        return (torch.maximum(p / t, t / p) < threshold).to(p.dtype).mean()

    return _per_sample(share, prediction, target, mask, scale=scale)


def ordinal_accuracy(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: int = 10_000,
    dead_zone: float = 0.02,
    seed: int = 0,
) -> Tensor:
    """Fraction of random pixel pairs whose predicted depth order is correct.

    Pairs whose true depths differ by no more than the dead zone are left out; a tie in the prediction is wrong.
    Higher is better. No unit; in [0, 1]; 0.5 at chance level, NaN if no pair is left. Invariant to scale and to any
    increasing function of the depth.
    Note: a value near 0 means that disparity was passed instead of depth.

    Args:
        prediction: (B, 1, H, W) depth > 0, not disparity.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.
        pairs: number of pairs drawn from each image.
        dead_zone: largest max / min - 1 of the true depths of a pair that is left out.
        seed: of the draw, the same for each image, so that values do not depend on the batch.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Chen et al. 2016, with random instead of annotated pairs.
    """

    def share(p: Tensor, t: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        i, j = torch.randint(len(p), (2, pairs), generator=random).to(p.device)
        counts = torch.maximum(t[i] / t[j], t[j] / t[i]) > 1 + dead_zone
        right = (p[i] - p[j]).sign() == (t[i] - t[j]).sign()
        return right[counts].to(p.dtype).mean()

    return _per_sample(share, prediction, target, mask)


def spearman(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rank correlation: Pearson's correlation of the ranks of the pixels, with mean ranks for ties.

    Higher is better. No unit; in [-1, 1], 1 for the same order; NaN where one of the two is constant.
    Invariant to scale and to any increasing function of the depth.
    Note: with the background included, it mostly measures that the head is in front of it; mask the face to measure its
    relief.

    Args:
        prediction: (B, 1, H, W) depth > 0, not disparity, which flips the sign.
        target: likewise.
        mask: (B, 1, H, W) bool, True for the pixels that count; None for all.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or a depth within the mask is not positive.

    Reference:
        Spearman 1904.
    """

    def correlation(p: Tensor, t: Tensor) -> Tensor:
        p, t = _ranks(p), _ranks(t)
        return ((p * t).mean() / (p.square().mean() * t.square().mean()).sqrt()).clamp(-1, 1)

    return _per_sample(correlation, prediction, target, mask)


def _ranks(values: Tensor) -> Tensor:
    """Centered ranks, divided by the number of values."""
    _, index, counts = values.unique(return_inverse=True, return_counts=True)
    doubled = 2 * counts.cumsum(0) - counts - len(values)  # integers, so that the mean is exactly 0
    return doubled[index].to(values.dtype) / len(values)


def _median_ratio(p: Tensor, t: Tensor) -> Tensor:
    return _median(t) / _median(p)


def _median(values: Tensor) -> Tensor:
    return (values.median() - (-values).median()) / 2  # mean of both middle values; PyTorch returns the lower


def _per_sample(
    metric: Callable[[Tensor, Tensor], Tensor],
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None,
    *,
    scale: bool = False,
) -> Tensor:
    """Apply a metric to the masked pixels (n,) of each sample; NaN where there are none or one is not finite."""
    prediction, target = pair(prediction, target, "B 1 H W")
    mask = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
    if mask.shape != target.shape or mask.dtype != torch.bool:
        raise ValueError(f"expected a bool mask {tuple(target.shape)}, got {mask.dtype} {tuple(mask.shape)}")
    values = []
    for p, t in ((p[m], t[m]) for p, t, m in zip(prediction, target, mask, strict=True)):
        for name, depth in (("prediction", p), ("target", t)):
            if (depth <= 0).any():
                raise ValueError(f"expected a {name} > 0 within the mask, got {depth.min():g}")
        if len(p) and p.isfinite().all() and t.isfinite().all():
            values.append(metric(p * _median_ratio(p, t) if scale else p, t))
        else:
            values.append(p.new_tensor(torch.nan))
    return torch.stack(values) if values else prediction.new_empty(0)
