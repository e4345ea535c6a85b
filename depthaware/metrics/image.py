"""Full-reference image metrics, of pixels and of windows."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .inputs import images, one_of

Window = Literal["gaussian", "uniform"]
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2; finest scale first


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference: mean over colors and pixels of |prediction - target|.

    Lower is better. In [0, 1], unit: the full range of the image; times 255 it is in gray levels.
    Note: most pixels of a talking head are static, so that copying the source scores well. Compare with that baseline.

    Args:
        prediction: (B, 3, H, W) in [0, 1].
        target: likewise.

    Returns:
        (B,); 0 for identical images.

    Raises:
        ValueError: if the shapes differ or the range is wrong.

    Reference:
        Siarohin et al. 2019 (FOMM), section 4.
    """
    prediction, target = images(prediction, target)
    return (prediction - target).abs().mean((1, 2, 3))


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio: -10 log10 of the mean squared difference over colors and pixels.

    Higher is better. In decibels, for a range of 1; at least 0, infinite for identical images.
    Note: the mean PSNR of frames is above the PSNR of their mean squared error (Jensen's inequality), by decibels if
    the frames differ much in quality. This function gives one value per frame; average these.

    Args:
        prediction: (B, 3, H, W) in [0, 1].
        target: likewise.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or the range is wrong.
    """
    prediction, target = images(prediction, target)
    return -10 * (prediction - target).square().mean((1, 2, 3)).log10()


def ssim(
    prediction: Tensor, target: Tensor, *, window: Window = "gaussian", channels: Literal["rgb", "luma"] = "rgb"
) -> Tensor:
    """Structural similarity: means, variances and covariance of x and y in windows, averaged over windows and colors.

    (2 μx μy + C1) (2 σxy + C2) / ((μx² + μy² + C1) (σx² + σy² + C2)), C1 = 0.01², C2 = 0.03² for a range of 1.
    Higher is better. No unit; in [-1, 1], 1 for identical images.

    The default is the variant of the original paper, per color: Gaussian windows of 11 x 11, sigma 1.5, population
    covariance, only windows within the image. It equals scikit-image's
    ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)``.
    Note: other implementations use other variants, and published tables seldom state theirs.

    Args:
        prediction: (B, 3, H, W) in [0, 1], at least 11 pixels high and wide.
        target: likewise.
        window: "uniform" is the default of scikit-image: 7 x 7, sample covariance.
        channels: "luma" compares 0.299 R + 0.587 G + 0.114 B (BT.601, full range).

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ, the range is wrong, or the image is smaller than the window.

    Reference:
        Wang et al. 2004, eq. 13.
    """
    one_of("window", window, ("gaussian", "uniform"))
    one_of("channels", channels, ("rgb", "luma"))
    prediction, target = images(prediction, target)
    if channels == "luma":
        weights = prediction.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
        prediction, target = ((image * weights).sum(1, keepdim=True) for image in (prediction, target))
    luminance, structure = _similarity(prediction, target, window)
    return (luminance * structure).mean((1, 2, 3))


def ms_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Multi-scale structural similarity: product of powers of the similarities at five scales, each half the previous.

    Contrast and structure enter at every scale (0.0448, 0.2856, 0.3001, 0.2363, 0.1333, finest first), luminance at the
    coarsest only. Windows as in `ssim`, halved by 2 x 2 means, averaged over colors at each scale; a negative mean
    counts as 0. Higher is better. No unit; in [0, 1], 1 for identical images.
    Note: it is insensitive to fine detail and far above `ssim` for the same blurred image. Never compare the two.

    Args:
        prediction: (B, 3, H, W) in [0, 1], at least 176 pixels high and wide.
        target: likewise.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ, the range is wrong, or the image is smaller than 176 pixels.

    Reference:
        Wang et al. 2003, eq. 7.
    """
    prediction, target = images(prediction, target)
    if min(prediction.shape[-2:]) < 176:
        raise ValueError(f"ms_ssim needs images of at least 176 x 176 pixels, got {tuple(prediction.shape)}")
    product = prediction.new_ones(len(prediction))
    for scale, weight in enumerate(_MS_WEIGHTS, start=1):
        luminance, structure = _similarity(prediction, target, "gaussian")
        similarity = structure if scale < len(_MS_WEIGHTS) else luminance * structure
        product = product * similarity.mean((1, 2, 3)).clamp_min(0) ** weight
        prediction, target = avg_pool2d(prediction, 2), avg_pool2d(target, 2)
    return product


def _similarity(x: Tensor, y: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Similarity of luminance, and of contrast and structure, for all windows within the images."""
    taps = _taps(window)
    if min(x.shape[-2:]) < len(taps):
        raise ValueError(f"ssim needs images of at least {len(taps)} x {len(taps)} pixels, got {tuple(x.shape)}")
    mean_x, mean_y = _blur(x, taps), _blur(y, taps)
    correction = 1.0 if window == "gaussian" else len(taps) ** 2 / (len(taps) ** 2 - 1)
    squares = (_blur(x * x, taps) - mean_x * mean_x) + (_blur(y * y, taps) - mean_y * mean_y)
    covariance = _blur(x * y, taps) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x * mean_x + mean_y * mean_y + 0.01**2)
    return luminance, (2 * correction * covariance + 0.03**2) / (correction * squares + 0.03**2)


def _taps(window: Window) -> list[float]:
    if window == "uniform":
        return [1 / 7] * 7
    weights = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    return (weights / weights.sum()).tolist()


def _blur(image: Tensor, taps: list[float]) -> Tensor:
    # Sums of shifted images instead of a convolution, which autocast would compute in half precision: too coarse for
    # variances.
    for dim in (2, 3):
        length = image.shape[dim] - len(taps) + 1
        shifted = [image.narrow(dim, start, length) for start in range(len(taps))]
        total = shifted[0] * taps[0]
        for part, tap in zip(shifted[1:], taps[1:], strict=True):
            total = total.add_(part, alpha=tap)
        image = total
    return image
