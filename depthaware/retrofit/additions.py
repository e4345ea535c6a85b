"""What a retrofit adds: a depth channel for convolutions, and depth features for attention."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..blocks import DownBlock, SameBlock
from .mechanism import Site


class DepthChannel(nn.Module):
    """The fourth input channel of a convolution that was trained on three, its weights zero.

    conv(RGB) + this(disparity) is what the widened convolution computes of RGB-D. Kept apart, the trained weights stay
    exactly what they are, and the new ones can be trained alone.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        geometry: dict[str, Any] = {name: getattr(conv, name) for name in names}
        self.conv = nn.Conv2d(1, conv.out_channels, **geometry, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, disparity: Tensor, x: Tensor) -> Tensor:
        """(B, 1, H, W) and the convolution's output (B, C, h, w) -> (B, C, h, w)."""
        return x + self.conv(disparity)


class DepthPyramid(nn.Module):
    """Depth features of the shapes of a generator's appearance features: disparity -> a list, deepest first.

    Args:
        widths: channels at 1, 1/2, 1/4, ... of the image size.
        levels: how many of the deepest are wanted.
    """

    def __init__(self, widths: list[int], *, levels: int = 1) -> None:
        super().__init__()
        self.levels = levels
        self.first = SameBlock(1, widths[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))

    def forward(self, disparity: Tensor) -> list[Tensor]:
        """(B, 1, H, W) -> `levels` features (B, C, h, w)."""
        features = [self.first(disparity)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features[::-1][: self.levels]


def rgbd(detector: nn.Module, paths: list[str]) -> list[Site]:
    """Depth as the fourth channel of these convolutions."""
    sites = []
    for path in paths:
        conv = detector.get_submodule(path)
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(f"kp_detector: looked for a convolution {path!r}, found {type(conv).__name__}")
        sites.append(Site(path, DepthChannel(conv), "after"))
    return sites
