"""Dense motion: from sparse key-point motions to one deformation and an occlusion map."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from .blocks import AntiAliasDownsample, Hourglass, check_size
from .geometry import coordinate_grid, inverse_2x2, matmul_2x2
from .keypoints import Keypoints, gaussian_heatmap
from .warp import sample


class DenseMotion(NamedTuple):
    """Backward motion from the result to the source; h x w is the motion network's resolution.

    Attributes:
        deformation: (B, h, w, 2), backward map in normalized coordinates.
        occlusion_map: (B, 1, h, w) in (0, 1), 1 = keep the warped source, 0 = inpaint.
        mask: (B, N+1, h, w), weight of each sparse motion at each position; sums to 1, index 0 = background.
        sparse_motion: (B, N+1, h, w, 2).
        sparse_deformed: (B, N+1, 3, h, w), the source under each sparse motion.

    The generator needs the first two alone; the others come from `DenseMotionNetwork`, and are None in your own motion.
    """

    deformation: Tensor
    occlusion_map: Tensor
    mask: Tensor | None = None
    sparse_motion: Tensor | None = None
    sparse_deformed: Tensor | None = None


class DenseMotionNetwork(nn.Module):
    """Combines the key points' local affine motions with a predicted mask.

    Args:
        num_keypoints: N.
        block_expansion: width of the hourglass.
        max_features: most channels of any hourglass level.
        num_blocks: halvings in the hourglass.
        scale_factor: the motion is estimated at this fraction of the image size.
        align_corners: sampling convention, see `warp`; True for newly trained weights.

    Reference:
        Hong et al. 2022, section 3.3, eq. 7, figures 4 and 11c; Siarohin et al. 2019, section 3.2.
    """

    def __init__(
        self,
        num_keypoints: int = 15,
        *,
        block_expansion: int = 64,
        max_features: int = 1024,
        num_blocks: int = 5,
        scale_factor: float = 0.25,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.down = AntiAliasDownsample(3, scale_factor)
        self.hourglass = Hourglass(
            4 * (num_keypoints + 1), block_expansion=block_expansion, max_features=max_features, num_blocks=num_blocks
        )
        self.mask = nn.Conv2d(self.hourglass.out_channels, num_keypoints + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels, 1, 7, padding=3)

    def forward(self, source_image: Tensor, kp_source: Keypoints, kp_driving: Keypoints) -> DenseMotion:
        """Estimate the motion from the source to the driving frame.

        Args:
            source_image: (B, 3, H, W) in [0, 1]; sides multiples of 2 ** num_blocks / scale_factor.
            kp_source: key points of the source image.
            kp_driving: key points of the driving frame.
        """
        check_size(source_image, 2 ** len(self.hourglass.down_blocks) * self.down.step, "source_image")
        return self.forward_downsampled(self.down(source_image), kp_source, kp_driving)

    def forward_downsampled(self, small: Tensor, kp_source: Keypoints, kp_driving: Keypoints) -> DenseMotion:
        """`forward` for a source that `self.down` has already reduced to (B, 3, h, w)."""
        motions = sparse_motion(kp_source, kp_driving, small.shape[-2:])
        deformed = self._deform(small, motions)
        heatmaps = motion_heatmaps(kp_source, kp_driving, small.shape[-2:])
        groups = torch.cat((heatmaps[:, :, None], deformed), dim=2)
        feature = self.hourglass(rearrange(groups, "b n c h w -> b (n c) h w"))
        mask = self.mask(feature).softmax(dim=1)
        deformation = (mask[..., None] * motions).sum(1)  # not einsum: autocast would round the coordinates
        return DenseMotion(deformation, torch.sigmoid(self.occlusion(feature)), mask, motions, deformed)

    def _deform(self, small: Tensor, motions: Tensor) -> Tensor:
        """Warp the source by every motion, sampled as one tall image so that it is not copied N + 1 times."""
        deformed = sample(small, rearrange(motions, "b n h w xy -> b (n h) w xy"), align_corners=self.align_corners)
        return rearrange(deformed, "b c (n h) w -> b n c h w", n=motions.shape[1])


def sparse_motion(kp_source: Keypoints, kp_driving: Keypoints, size: Sequence[int]) -> Tensor:
    """Local affine motion around each key point, T_k(z) = J_s J_d⁻¹ (z - kp_driving) + kp_source.

    Args:
        kp_source: N key points of the source.
        kp_driving: N key points of the driving frame.
        size: (h, w) of the grid.

    Returns:
        (B, N+1, h, w, 2); index 0 is the background, the identity.

    Reference:
        Hong et al. 2022, section 3.3, eq. 7, for key points without Jacobians: z + kp_source - kp_driving; Siarohin et
        al. 2019, section 3.2, for those with them.
    """
    value = kp_driving.value
    grid = coordinate_grid(*size, dtype=value.dtype, device=value.device)
    offset = grid - value[:, :, None, None]
    if kp_driving.jacobian is not None and kp_source.jacobian is not None:
        affine = matmul_2x2(kp_source.jacobian, inverse_2x2(kp_driving.jacobian))
        offset = matmul_2x2(affine[:, :, None, None], offset[..., None])[..., 0]
    motions = offset + kp_source.value[:, :, None, None]
    return torch.cat((grid.expand(value.shape[0], 1, -1, -1, -1), motions), dim=1)


def motion_heatmaps(kp_source: Keypoints, kp_driving: Keypoints, size: Sequence[int]) -> Tensor:
    """Heat maps of the driving minus those of the source key points, (B, N+1, h, w); zero for the background."""
    heatmaps = gaussian_heatmap(kp_driving.value, size) - gaussian_heatmap(kp_source.value, size)
    return torch.cat((torch.zeros_like(heatmaps[:, :1]), heatmaps), dim=1)
