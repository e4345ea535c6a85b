"""Regularizers of the disparity: edge-aware smoothness and consistency under mirroring."""

import torch
from torch import Tensor, nn


def smoothness_loss(disparity: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness: mean |gradient| of the mean-normalized disparity, attenuated at image edges.

    Dividing by the mean makes the loss invariant to the disparity's scale, so that shrinking cannot reduce it.

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
    """Mean absolute difference between the disparity of an image and that of its mirror image, mirrored back.

    Both are divided by their means, so that the loss is invariant to scale.

    Args:
        disparity: (B, 1, H, W) in (0, 1).
        mirrored: likewise, of the image flipped left to right.

    Reference:
        Godard et al. 2017, section 3.2, for a pair of views.
    """
    a, b = (d / d.mean((2, 3), keepdim=True) for d in (disparity, mirrored.flip(3)))
    return (a - b).abs().mean()


class SmoothnessLoss(nn.Module):
    """Weighted Module form of [`smoothness_loss`][depthaware.losses.smoothness_loss]."""

    def __init__(self, *, weight: float = 1e-3) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, disparity: Tensor, image: Tensor) -> Tensor:
        return self.weight * smoothness_loss(disparity, image)
