"""Photometric reprojection loss: SSIM and L1 between a target frame and its neighbors warped into its view."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity around every pixel.

    The common variant for photometric losses: plain means over 3 x 3 windows (no Gaussian, no sample-size correction),
    borders reflected, C1 = 0.01² and C2 = 0.03² for a range of 1.

    Args:
        x: (B, C, H, W) in [0, 1].
        y: likewise.

    Returns:
        (B, C, H, W) in [-1, 1], 1 where the windows are equal.

    Reference:
        Wang et al. 2004, eq. 13.
    """
    x, y = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in (x, y))

    def mean(image: Tensor) -> Tensor:  # several times as fast on a CPU as average pooling
        rows = image[..., :-2, :] + image[..., 1:-1, :] + image[..., 2:, :]
        return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x * mean_x, mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x * mean_x + mean_y * mean_y + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)


def photometric_error(prediction: Tensor, target: Tensor, *, alpha: float = 0.8) -> Tensor:
    """alpha · (1 - SSIM) / 2 + (1 - alpha) · L1 of every pixel, averaged over the colors.

    Args:
        prediction: (B, C, H, W) in [0, 1].
        target: likewise.
        alpha: weight of the structural part, in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1], 0 for equal images.

    Raises:
        ValueError: if the shapes differ, which would broadcast silently.

    Reference:
        Hong et al. 2022, section 3.2, eq. 5; Godard et al. 2019, section 3.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"expected images of one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}")
    structural = (1 - ssim_map(prediction, target)) / 2
    error = alpha * structural + (1 - alpha) * (prediction - target).abs()
    return error.mean(dim=1, keepdim=True)


def reprojection_loss(
    target: Tensor, reprojected: Sequence[Tensor], neighbors: Sequence[Tensor] | None = None, *, alpha: float = 0.8
) -> Tensor:
    """Photometric error of the best neighbor at every pixel, averaged over pixels.

    The minimum ignores occlusion in one neighbor. The auto-mask counts a pixel as 0 where an unwarped neighbor matches
    at least as well: pixels that are static, or move with the camera, carry no information about depth.

    Args:
        target: (B, C, H, W) in [0, 1].
        reprojected: each neighbor warped into the target's view, likewise.
        neighbors: the same frames unwarped, for the auto-mask; without them every pixel counts.
        alpha: see `photometric_error`.

    Reference:
        Godard et al. 2019, eq. 4 and 5.
    """
    unwarped = None if neighbors is None else minimum_error(neighbors, target, alpha)
    return masked_mean(minimum_error(reprojected, target, alpha), unwarped)


def minimum_error(images: Sequence[Tensor], target: Tensor, alpha: float) -> Tensor:
    """Photometric error (B, 1, H, W) of the best of the images at every pixel."""
    return torch.stack([photometric_error(image, target, alpha=alpha) for image in images]).amin(dim=0)


def masked_mean(error: Tensor, unwarped: Tensor | None) -> Tensor:
    """Mean of the error, with pixels set to 0 where the unwarped error is not larger."""
    # Strictly smaller: ties, as in a static video, are dropped without tie-breaking noise.
    return (error if unwarped is None else error * (error < unwarped)).mean()


class ReprojectionLoss(nn.Module):
    """Module form of [`reprojection_loss`][depthaware.losses.reprojection_loss]."""

    def __init__(self, *, alpha: float = 0.8) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(
        self, target: Tensor, reprojected: Sequence[Tensor], neighbors: Sequence[Tensor] | None = None
    ) -> Tensor:
        return reprojection_loss(target, reprojected, neighbors, alpha=self.alpha)
