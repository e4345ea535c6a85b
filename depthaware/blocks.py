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


class ResNetBlock(nn.Module):
    """Residual block of a `ResNet`: (B, in, h, w) -> (B, out, h / stride, w / stride).

    Args:
        in_channels: channels of the input.
        channels: channels of the 3 x 3 convolutions.
        stride: of the first of them.
        bottleneck: 1 x 1, 3 x 3 and 1 x 1 convolutions with four times as many channels at the end, not two of 3 x 3.
        average: the shortcut averages before its 1 x 1 convolution instead of striding (He et al. 2019, ResNet-D).
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int, bottleneck: bool, average: bool) -> None:
        super().__init__()
        self.out_channels = channels * 4 if bottleneck else channels
        downsample = None  # built first, as in timm
        if stride > 1 or in_channels != self.out_channels:
            pool: list[nn.Module] = []
            if average:
                pool = [nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()]
            conv = _conv(in_channels, self.out_channels, 1, 1 if average else stride)
            downsample = nn.Sequential(*pool, conv, nn.BatchNorm2d(self.out_channels))
        first, second = (1, stride) if bottleneck else (stride, 1)
        self.conv1 = _conv(in_channels, channels, 1 if bottleneck else 3, first)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, second)
        self.bn2 = last = nn.BatchNorm2d(channels)
        self.conv3 = None
        if bottleneck:
            self.conv3 = _conv(channels, self.out_channels, 1, 1)
            self.bn3 = last = nn.BatchNorm2d(self.out_channels)
        nn.init.zeros_(last.weight)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None:
            y = self.bn3(self.conv3(F.relu(y, inplace=True)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """ResNet encoder: (B, in, H, W) -> five feature maps at 1/2, 1/4, ..., 1/32 with `channels` channels.

    Parameters are named, shaped and initialized as in timm, so that its weights fit.

    Args:
        in_channels: channels of the input.
        layers: blocks of each stage.
        widths: channels of each stage's 3 x 3 convolutions.
        bottleneck: whether each stage's blocks are bottlenecks.
        deep_stem: channels of three 3 x 3 convolutions in place of the first 7 x 7; shortcuts then average.

    Reference:
        He et al. 2016, Deep residual learning for image recognition.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        layers: tuple[int, ...],
        widths: tuple[int, ...] = (64, 128, 256, 512),
        bottleneck: tuple[bool, ...] = (False, False, False, False),
        deep_stem: int = 0,
    ) -> None:
        super().__init__()
        self.channels = [2 * deep_stem or 64]
        self.conv1 = _deep_stem(in_channels, deep_stem) if deep_stem else _conv(in_channels, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(self.channels[0])
        for stage, (count, width, narrow) in enumerate(zip(layers, widths, bottleneck, strict=True)):
            blocks: list[ResNetBlock] = []
            for index in range(count):
                before = blocks[-1].out_channels if blocks else self.channels[-1]
                stride = 2 if stage and not index else 1
                blocks.append(ResNetBlock(before, width, stride=stride, bottleneck=narrow, average=deep_stem > 0))
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            self.channels.append(blocks[-1].out_channels)
        nn.Linear(
            self.channels[-1], 1000
        )  # unused: draws like timm's classifier, so that a seed gives the same weights
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        x = F.max_pool2d(features[0], 3, stride=2, padding=1)
        for stage in range(1, len(self.channels)):
            x = self.get_submodule(f"layer{stage}")(x)
            features.append(x)
        return features


def _conv(in_channels: int, out_channels: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)


def _deep_stem(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(in_channels, width, 3, 2),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _conv(width, width, 3, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _conv(width, 2 * width, 3, 1),
    )


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
