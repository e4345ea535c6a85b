"""Self-supervised depth loss of stage 1: warp neighbor frames into the target by depth and pose, compare pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import backproject, disparity_to_depth, project
from ..warp import resize, warp
from .disparity import smoothness_loss
from .photometric import masked_mean, minimum_error


def reproject(
    neighbor: Tensor, disparity: Tensor, T: Tensor, K: Tensor, *, min_depth: float = 0.1, max_depth: float = 100.0
) -> Tensor:
    """Warp a neighbor frame into the target's view, by the target's disparity and the relative pose.

    Args:
        neighbor: (B, C, H, W).
        disparity: (B, 1, H, W) in (0, 1), of the target.
        T: (B, 4, 4), from the target's camera to the neighbor's.
        K: (B, 3, 3) in pixels.
        min_depth: see `geometry.disparity_to_depth`; 0.1 to 100 are the values of Godard et al.
        max_depth: likewise.

    Reference:
        Hong et al. 2022, section 3.2, eq. 3 and 4.
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
    num_image_scales: int = 1,
    min_depth: float = 0.1,
    max_depth: float = 100.0,
) -> Tensor:
    """Loss of stage 1: reprojection plus smoothness, averaged over the scales of a disparity pyramid.

    The loss of every scale is computed at full resolution: its disparity is resized to the image first.

    Args:
        target: (B, 3, H, W) in [0, 1].
        neighbors: frames before and after the target, each likewise.
        disparities: of the target, finest first, as returned by `SelfSupDepthNet`.
        poses: for each neighbor the motion (B, 4, 4) from the target's camera to the neighbor's: of a later frame
            ``pose_net(target, later).matrix()``, of an earlier one ``invert_pose(pose_net(earlier, target).matrix())``.
        K: (B, 3, 3) in pixels of the target, or one per neighbor.
        alpha: see `photometric_error`.
        smoothness: weight of the smoothness at the finest scale; halves from scale to scale.
        automask: drop static pixels, see `reprojection_loss`.
        num_image_scales: number of image sizes, each half the one before, whose errors are added up. The gradient of
            a color difference reaches no further than the width of an edge, which is wider in small images. 1 with
            Godard et al.
        min_depth: see `geometry.disparity_to_depth`.
        max_depth: likewise.

    Reference:
        Hong et al. 2022, section 3.2, eq. 3 to 5, with one neighbor; Godard et al. 2019, section 3, for the best of
        several neighbors, the auto-mask, the smoothness and the scales, which the former does not mention.
    """
    if num_image_scales < 1:
        raise ValueError(f"num_image_scales: expected at least 1, got {num_image_scales}")
    cameras = [K] * len(neighbors) if isinstance(K, Tensor) else K
    views = list(zip(neighbors, poses, cameras, strict=True))
    targets = _pyramid(target, num_image_scales)
    unwarped = _minimum_errors(neighbors, targets, alpha) if automask else [None] * num_image_scales
    losses = []
    for scale, disparity in enumerate(disparities):
        disparity = resize(disparity, target.shape[-2:], align_corners=True)
        warped = [reproject(n, disparity, T, k, min_depth=min_depth, max_depth=max_depth) for n, T, k in views]
        errors = _minimum_errors(warped, targets, alpha)
        losses.append(smoothness / 2**scale * smoothness_loss(disparity, target))
        losses[-1] = losses[-1] + sum(map(masked_mean, errors, unwarped))
    return torch.stack(losses).mean()


def _pyramid(image: Tensor, num_scales: int) -> list[Tensor]:
    return [image if i == 0 else F.avg_pool2d(image, 2**i) for i in range(num_scales)]


def _minimum_errors(images: Sequence[Tensor], targets: list[Tensor], alpha: float) -> list[Tensor]:
    """`minimum_error` at every scale of the targets."""
    scales = zip(*(_pyramid(image, len(targets)) for image in images), strict=True)
    return [minimum_error(scaled, target, alpha) for scaled, target in zip(scales, targets, strict=True)]


class SelfSupDepthLoss(nn.Module):
    """Module form of [`self_supervised_depth_loss`][depthaware.losses.self_supervised_depth_loss]."""

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        smoothness: float = 1e-3,
        automask: bool = True,
        num_image_scales: int = 1,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
    ) -> None:
        super().__init__()
        self.alpha, self.smoothness, self.automask = alpha, smoothness, automask
        self.num_image_scales, self.min_depth, self.max_depth = num_image_scales, min_depth, max_depth

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
            num_image_scales=self.num_image_scales,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
        )
