"""Learning depth from video alone: warp neighbor frames into the target by depth and pose, compare the pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import backproject, disparity_to_depth, project
from ..warp import resize, warp


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity around every pixel.

    The variant that is usual for photometric losses: plain means over 3 x 3 windows (no Gaussian, no sample-size
    correction), borders reflected, C1 = 0.01² and C2 = 0.03² for a range of 1.

    Args:
        x: (B, C, H, W) in [0, 1].
        y: likewise.

    Returns:
        (B, C, H, W) in [-1, 1], 1 where the windows are equal.

    Reference:
        Wang et al. 2004, eq. 13.
    """
    x, y = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in (x, y))

    def mean(image: Tensor) -> Tensor:  # several times as fast on a CPU as an average pooling
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
        ValueError: if the shapes differ, which would broadcast without a word.

    Reference:
        Hong et al. 2022, section 3.1; Godard et al. 2019, eq. 2.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"expected images of one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}")
    structural = (1 - ssim(prediction, target)) / 2
    error = alpha * structural + (1 - alpha) * (prediction - target).abs()
    return error.mean(dim=1, keepdim=True)


def reprojection_loss(
    target: Tensor, reprojected: Sequence[Tensor], neighbors: Sequence[Tensor] | None = None, *, alpha: float = 0.8
) -> Tensor:
    """Photometric error of the best neighbor at every pixel, averaged over pixels.

    The minimum forgives what one neighbor cannot see. The auto-mask counts a pixel as 0 where the unwarped neighbors
    explain it at least as well: what stands still, or moves with the camera, says nothing about depth.

    Args:
        target: (B, C, H, W) in [0, 1].
        reprojected: each neighbor warped into the target's view, likewise.
        neighbors: the same frames unwarped, for the auto-mask; without them every pixel counts.
        alpha: see `photometric_error`.

    Reference:
        Godard et al. 2019, eq. 4 and 5.
    """
    still = None if neighbors is None else _minimum_error(neighbors, target, alpha)
    return _masked_mean(_minimum_error(reprojected, target, alpha), still)


def _minimum_error(images: Sequence[Tensor], target: Tensor, alpha: float) -> Tensor:
    return torch.stack([photometric_error(image, target, alpha=alpha) for image in images]).amin(dim=0)


def _masked_mean(error: Tensor, still: Tensor | None) -> Tensor:
    # Strictly smaller: on a tie, as in a frozen video, the pixel is dropped; no tie-breaking noise needed.
    return (error if still is None else error * (error < still)).mean()


def smoothness_loss(disparity: Tensor, image: Tensor) -> Tensor:
    """Mean |gradient| of the mean-normalized disparity, allowed where the image has an edge.

    Dividing by the mean makes the loss blind to the disparity's scale, so that it cannot be lowered by shrinking.

    Args:
        disparity: (B, 1, H, W) in (0, 1).
        image: (B, C, H, W) in [0, 1].

    Raises:
        ValueError: if the sizes differ.

    Reference:
        Godard et al. 2019, eq. 3.
    """
    if disparity.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"expected a disparity of the image's size {tuple(image.shape)}, got {tuple(disparity.shape)}")
    disparity = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
    steps = [
        disparity.diff(dim=dim).abs() * torch.exp(-image.diff(dim=dim).abs().mean(1, keepdim=True)) for dim in (2, 3)
    ]
    return steps[0].mean() + steps[1].mean()


def flip_consistency_loss(disparity: Tensor, mirrored: Tensor) -> Tensor:
    """Mean difference between the disparity of a picture and that of its mirror image, mirrored back.

    Both are divided by their means, so that the loss is blind to scale.

    Args:
        disparity: (B, 1, H, W) in (0, 1).
        mirrored: likewise, of the picture flipped left to right.

    Reference:
        Godard et al. 2017, section 3.2, for a pair of views.
    """
    a, b = (d / d.mean((2, 3), keepdim=True) for d in (disparity, mirrored.flip(3)))
    return (a - b).abs().mean()


def reproject(
    neighbor: Tensor, disparity: Tensor, T: Tensor, K: Tensor, *, min_depth: float = 0.1, max_depth: float = 100.0
) -> Tensor:
    """The target as seen through a neighbor frame: lift every target pixel to 3-D, move it, look where it falls.

    Args:
        neighbor: (B, C, H, W).
        disparity: (B, 1, H, W) in (0, 1), of the target.
        T: (B, 4, 4), from the target's camera to the neighbor's.
        K: (B, 3, 3) in pixels.
        min_depth: see `geometry.disparity_to_depth`.
        max_depth: likewise.
    """
    depth = disparity_to_depth(disparity, min_depth=min_depth, max_depth=max_depth)
    # "border": black outside of the neighbor would count as a wrong depth.
    return warp(neighbor, project(backproject(depth, K), K, T), padding_mode="border")


def self_supervised_depth_loss(
    target: Tensor,
    neighbors: Sequence[Tensor],
    disparities: Sequence[Tensor],
    poses: Sequence[Tensor],
    K: Tensor | Sequence[Tensor],
    *,
    alpha: float = 0.8,
    smoothness: float = 1e-3,
    automask: bool = True,
    sizes: int = 1,
    min_depth: float = 0.1,
    max_depth: float = 100.0,
) -> Tensor:
    """The whole loss of stage 1: reprojection plus smoothness, averaged over the scales of a disparity pyramid.

    Every scale is judged at full resolution: its disparity is resized to the image first.

    Args:
        target: (B, 3, H, W) in [0, 1].
        neighbors: frames before and after the target, each likewise.
        disparities: of the target, finest first, as `SelfSupDepthNet` puts them out.
        poses: for each neighbor the motion (B, 4, 4) from the target's camera to the neighbor's: of a later frame
            ``pose_net(target, later).matrix()``, of an earlier one ``invert_pose(pose_net(earlier, target).matrix())``.
        K: (B, 3, 3) in pixels of the target, or one per neighbor.
        alpha: see `photometric_error`.
        smoothness: weight of the smoothness at the finest scale; halves from scale to scale.
        automask: drop the pixels that stand still, see `reprojection_loss`.
        sizes: at how many sizes images are compared, each half the one before, and their errors added up: a difference
            of colors leads no further than an edge is wide, and small pictures have wide edges. 1 in the paper.
        min_depth: see `geometry.disparity_to_depth`.
        max_depth: likewise.

    Reference:
        Hong et al. 2022, section 3.1; Godard et al. 2019, section 3.
    """
    if sizes < 1:
        raise ValueError(f"sizes: expected at least 1, got {sizes}")
    cameras = [K] * len(neighbors) if isinstance(K, Tensor) else K
    views = list(zip(neighbors, poses, cameras, strict=True))
    targets = _halvings(target, sizes)
    stills = _minimum_errors(neighbors, targets, alpha) if automask else [None] * sizes
    losses = []
    for scale, disparity in enumerate(disparities):
        disparity = resize(disparity, target.shape[-2:], align_corners=True)
        warped = [reproject(n, disparity, T, k, min_depth=min_depth, max_depth=max_depth) for n, T, k in views]
        errors = _minimum_errors(warped, targets, alpha)
        losses.append(smoothness / 2**scale * smoothness_loss(disparity, target))
        losses[-1] = losses[-1] + sum(map(_masked_mean, errors, stills))
    return torch.stack(losses).mean()


def _halvings(image: Tensor, sizes: int) -> list[Tensor]:
    return [image if i == 0 else F.avg_pool2d(image, 2**i) for i in range(sizes)]


def _minimum_errors(images: Sequence[Tensor], targets: list[Tensor], alpha: float) -> list[Tensor]:
    """`_minimum_error` at every size."""
    sized = zip(*(_halvings(image, len(targets)) for image in images), strict=True)
    return [_minimum_error(some, target, alpha) for some, target in zip(sized, targets, strict=True)]


class ReprojectionLoss(nn.Module):
    """Module form of [`reprojection_loss`][depthaware.losses.reprojection_loss]."""

    def __init__(self, *, alpha: float = 0.8) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(
        self, target: Tensor, reprojected: Sequence[Tensor], neighbors: Sequence[Tensor] | None = None
    ) -> Tensor:
        return reprojection_loss(target, reprojected, neighbors, alpha=self.alpha)


class SmoothnessLoss(nn.Module):
    """Weighted Module form of [`smoothness_loss`][depthaware.losses.smoothness_loss]."""

    def __init__(self, *, weight: float = 1e-3) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, disparity: Tensor, image: Tensor) -> Tensor:
        return self.weight * smoothness_loss(disparity, image)


class SelfSupDepthLoss(nn.Module):
    """Module form of [`self_supervised_depth_loss`][depthaware.losses.self_supervised_depth_loss]."""

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        smoothness: float = 1e-3,
        automask: bool = True,
        sizes: int = 1,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
    ) -> None:
        super().__init__()
        self.alpha, self.smoothness, self.automask, self.sizes = alpha, smoothness, automask, sizes
        self.min_depth, self.max_depth = min_depth, max_depth

    def forward(
        self,
        target: Tensor,
        neighbors: Sequence[Tensor],
        disparities: Sequence[Tensor],
        poses: Sequence[Tensor],
        K: Tensor | Sequence[Tensor],
    ) -> Tensor:
        return self_supervised_depth_loss(
            target,
            neighbors,
            disparities,
            poses,
            K,
            alpha=self.alpha,
            smoothness=self.smoothness,
            automask=self.automask,
            sizes=self.sizes,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
        )
