"""Modules that a retrofit adds: depth channels for convolutions, and depth features for attention."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..blocks import AntiAliasDownsample, DownBlock, SameBlock
from .lookup import find_target, names_in
from .plan import Site


class DepthChannel(nn.Module):
    """Fourth input channel of a convolution that was trained on three, with zero weights.

    conv(RGB) + depth_channel(disparity) equals a convolution of RGB-D with four input channels. As a module of its own
    it leaves the trained weights unchanged, and its weights can be trained alone.

    Args:
        conv: the trained convolution.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        geometry: dict[str, Any] = {name: getattr(conv, name) for name in names}
        self.conv = nn.Conv2d(1, conv.out_channels, **geometry, bias=False)
        nn.init.zeros_(self.conv.weight)

    @property
    def gate(self) -> Tensor:
        """Weights, all 0 before training."""
        return self.conv.weight

    def forward(self, disparity: Tensor, x: Tensor) -> Tensor:
        """Disparity (B, 1, H, W) and output of the convolution (B, C, h, w) -> (B, C, h, w)."""
        return x + self.conv(disparity)


class DepthPyramid(nn.Module):
    """Depth features with the shapes of a generator's appearance features.

    Args:
        widths: channels at 1, 1/2, 1/4, ... of the image size, see `encoder_widths`.
        levels: number of features that `forward` returns.
    """

    def __init__(self, widths: list[int], *, levels: int = 1) -> None:
        super().__init__()
        self.levels = levels
        self.first = SameBlock(1, widths[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))

    def forward(self, disparity: Tensor) -> list[Tensor]:
        """Disparity (B, 1, H, W) -> list of `levels` features (B, C, h, w), deepest first."""
        features = [self.first(disparity)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features[::-1][: self.levels]


def depth_channels(detector: nn.Module, paths: list[str]) -> list[Site]:
    """Sites that give convolutions depth as their fourth input channel.

    Args:
        detector: key point detector.
        paths: names of the convolutions in it.

    Raises:
        ValueError: if one of them is no convolution.
    """
    sites = []
    for path in paths:
        conv = detector.get_submodule(path)
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(f"kp_detector: expected a convolution {path!r}, found {type(conv).__name__}")
        sites.append(Site(path, DepthChannel(conv), "after"))
    return sites


def image_resizing(kp_detector: nn.Module, targets: Mapping[str, str]) -> nn.Module:
    """Resizing of disparities like that of the image in `kp_detector`, whose scale is measured on a test image."""
    if "down" not in targets and not names_in(kp_detector, "down"):
        return nn.Identity()
    down = kp_detector.get_submodule(find_target(kp_detector, "down", "kp_detector", targets))
    image = next(kp_detector.parameters()).new_zeros(1, 3, 64, 64)
    return AntiAliasDownsample(1, down(image).shape[-1] / 64)
