"""Backward warping of images and feature maps; the only caller of `grid_sample`."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def warp(image: Tensor, deformation: Tensor, *, align_corners: bool = True, padding_mode: str = "zeros") -> Tensor:
    """Backward-warp: output(z) = image(deformation(z)), bilinear.

    Args:
        image: (B, C, H, W), image or feature map.
        deformation: (B, h, w, 2), normalized (x, y) positions in `image`; resized bilinearly to (H, W) if
            different.
        align_corners: True puts -1 and +1 at the centers of the corner pixels, so that the identity grid is exactly the
            identity. False reproduces the sampling that the released DaGAN weights were trained with, where it is not.
        padding_mode: "zeros", "border" or "reflection", for positions outside of the image.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: if the deformation is not (B, h, w, 2) for the image's B.
    """
    if deformation.ndim != 4 or deformation.shape[0] != image.shape[0] or deformation.shape[-1] != 2:
        raise ValueError(
            f"expected a deformation ({image.shape[0]}, h, w, 2) for an image {tuple(image.shape)}, "
            f"got {tuple(deformation.shape)}"
        )
    deformation = resize(deformation.permute(0, 3, 1, 2), image.shape[-2:], align_corners).permute(0, 2, 3, 1)
    return sample(image, deformation, align_corners=align_corners, padding_mode=padding_mode)


def sample(image: Tensor, positions: Tensor, *, align_corners: bool = True, padding_mode: str = "zeros") -> Tensor:
    """Sample an image (B, C, H, W) at positions (B, h, w, 2), bilinearly, to (B, C, h, w)."""
    return F.grid_sample(image, positions, mode="bilinear", padding_mode=padding_mode, align_corners=align_corners)


def resize(feature: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Resize (B, C, h, w) to (B, C, *size) bilinearly; unchanged where the size already fits."""
    if tuple(feature.shape[-2:]) == tuple(size):
        return feature
    return F.interpolate(feature, size=tuple(size), mode="bilinear", align_corners=align_corners)
