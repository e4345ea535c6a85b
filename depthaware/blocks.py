"""Convolutional building blocks of the key-point detector, the motion network and the generator."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameBlock(nn.Module):
    """Convolution, batch norm, ReLU at one resolution: (B, in, h, w) -> (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DownBlock(SameBlock):
    """A `SameBlock`, then average pooling by 2: (B, in, h, w) -> (B, out, h/2, w/2)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class UpBlock(SameBlock):
    """Nearest up-sampling by 2, then a `SameBlock`: (B, in, h, w) -> (B, out, 2h, 2w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0))


class ResBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016): (B, c, h, w) -> (B, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


class Hourglass(nn.Module):
    """U-Net that keeps the resolution: (B, in, h, w) -> (B, block_expansion + in, h, w).

    Args:
        in_channels: channels of the input, which is also concatenated to the output.
        block_expansion: channels of the first level are twice this.
        max_features: most channels of any level.
        num_blocks: number of halvings; h and w must be multiples of 2 ** num_blocks.
    """

    def __init__(
        self, in_channels: int, *, block_expansion: int = 64, max_features: int = 1024, num_blocks: int = 5
    ) -> None:
        super().__init__()
        width = [min(max_features, block_expansion * 2**i) for i in range(num_blocks + 1)]
        self.out_channels = block_expansion + in_channels
        self.down_blocks = nn.ModuleList(
            DownBlock(in_channels if i == 0 else width[i], width[i + 1]) for i in range(num_blocks)
        )
        self.up_blocks = nn.ModuleList(
            UpBlock((1 if i == num_blocks - 1 else 2) * width[i + 1], block_expansion if i == 0 else width[i])
            for i in reversed(range(num_blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        check_size(x, 2 ** len(self.down_blocks), "hourglass input")
        skips = [x]
        for block in self.down_blocks:
            skips.append(block(skips[-1]))
        y = skips.pop()
        for block in self.up_blocks:
            y = torch.cat((block(y), skips.pop()), dim=1)
        return y


class AntiAliasDownsample(nn.Module):
    """Gaussian blur, then every (1/scale)-th pixel: (B, c, h, w) -> (B, c, scale·h, scale·w).

    Sigma is (1/scale - 1) / 2, the kernel has 2·round(4·sigma) + 1 taps, the border is zero (Siarohin et al. 2019).

    Args:
        channels: channels of the input.
        scale: 1, 1/2, 1/4, ...
    """

    def __init__(self, channels: int, scale: float = 0.25) -> None:
        super().__init__()
        self.step = round(1 / scale)
        if self.step < 1 or self.step * scale != 1:
            raise ValueError(f"expected a scale of 1, 1/2, 1/4, ..., got {scale}")
        sigma = (self.step - 1) / 2
        radius = round(4 * sigma)
        taps = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-taps.square() / (2 * max(sigma, 1e-6) ** 2))
        kernel = kernel[:, None] * kernel
        # Follows from the scale: not part of the checkpoint.
        self.register_buffer("weight", (kernel / kernel.sum()).repeat(channels, 1, 1, 1), persistent=False)
        self.weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.step == 1:
            return x
        check_size(x, self.step, "image")
        padding = self.weight.shape[-1] // 2
        return F.conv2d(x, self.weight, stride=self.step, padding=padding, groups=x.shape[1])


def check_size(x: Tensor, multiple: int, name: str) -> None:
    """Raise ValueError unless the sides of (B, c, h, w) are positive multiples of `multiple`."""
    height, width = x.shape[-2:]
    if height % multiple or width % multiple or not height or not width:
        raise ValueError(f"{name}: expected height and width in multiples of {multiple}, got {height} x {width}")
