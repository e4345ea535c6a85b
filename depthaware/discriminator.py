"""Patch discriminators on the image and heat maps of its key points."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import AntiAliasDownsample
from .keypoints import Keypoints, gaussian_heatmap


class DiscriminatorOutput(NamedTuple):
    """Output of the discriminator at one scale.

    Attributes:
        prediction: (B, 1, h, w), a score per patch; trained towards 1 for real and 0 for generated.
        features: output of each block, for feature matching.
    """

    prediction: Tensor
    features: list[Tensor]


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator per image scale, conditioned on the driving key points.

    Args:
        num_keypoints: N.
        scales: of the image pyramid, each 1, 1/2, 1/4, ...; the paper uses a single scale (section A.1).
        block_expansion: channels of the first block; they double from block to block.
        max_features: most channels of any block.
        num_blocks: blocks per discriminator.
        variance: of the key points' Gaussians, in squared normalized units.

    Reference:
        Hong et al. 2022, section A.2, figure 11h; Siarohin et al. 2019, supplementary material;
        Wang et al. 2018 (pix2pixHD), section 3.2.
    """

    def __init__(
        self,
        num_keypoints: int = 15,
        *,
        scales: Sequence[float] = (1.0,),
        block_expansion: int = 64,
        max_features: int = 512,
        num_blocks: int = 4,
        variance: float = 0.01,
    ) -> None:
        super().__init__()
        self.variance = variance
        widths = [min(max_features, block_expansion * 2**i) for i in range(num_blocks)]
        self.downs = nn.ModuleList(AntiAliasDownsample(3, scale) for scale in scales)
        self.discs = nn.ModuleList(_PatchDiscriminator([3 + num_keypoints, *widths]) for _ in scales)

    def forward(self, image: Tensor, kp: Keypoints) -> tuple[DiscriminatorOutput, ...]:
        """Score images at every scale.

        Args:
            image: (B, 3, H, W) in [0, 1], real or generated.
            kp: key points of the driving image; detach them unless this loss should train the detector.

        Raises:
            ValueError: if the image of some scale is too small for the number of blocks.
        """
        outputs = []
        for down, disc in zip(self.downs, self.discs, strict=True):
            scaled = down(image)
            heatmap = gaussian_heatmap(kp.value, scaled.shape[-2:], variance=self.variance)
            outputs.append(disc(torch.cat((scaled, heatmap), dim=1)))
        return tuple(outputs)


class _PatchDiscriminator(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        last = len(widths) - 2
        self.down_blocks = nn.ModuleList(
            _DownBlock(widths[i], widths[i + 1], norm=i > 0, pool=i < last) for i in range(last + 1)
        )
        self.conv = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        smallest = 2 ** (len(self.down_blocks) + 2) - 3  # leaves 2 x 2 patches: an instance norm over one is always 0
        if min(x.shape[-2:]) < smallest:
            height, width = x.shape[-2:]
            raise ValueError(f"image: expected sides of at least {smallest} at every scale, got {height} x {width}")
        features = []
        for block in self.down_blocks:
            x = block(x)
            features.append(x)
        return DiscriminatorOutput(self.conv(x), features)


class _DownBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True) if norm else None
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        x = F.leaky_relu(x, 0.2)
        return F.avg_pool2d(x, 2) if self.pool else x
