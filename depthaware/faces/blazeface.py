"""BlazeFace: two networks that find faces and six points on each, small enough to be part of the package.

Both work on images of any size that is a multiple of their coarsest stride; they were trained on squares of `side`.

Reference:
    Bazarevsky et al. 2019, BlazeFace: Sub-millisecond neural face detection on mobile GPUs. The layers are those of the
    graphs from which the weights were converted, see ``depthaware/assets/face_detector/README.md``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class ShortBlock(nn.Module):
    """Depthwise and pointwise convolution beside a shortcut, which max pooling and empty channels fit to the result."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride, padding=2 - stride, groups=c_in)
        self.pointwise = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        short = x
        if self.depthwise.stride[0] == 2:
            short = F.max_pool2d(x, 2)
            x = F.pad(x, (0, 1, 0, 1))  # as TensorFlow pads
        x = self.pointwise(self.depthwise(x))
        channels = short.shape[1]
        if torch.compiler.is_exporting():  # in graphs, slices are written by slow scattering
            return F.relu(x + F.pad(short, (0, 0, 0, 0, 0, x.shape[1] - channels)))
        x[:, :channels].add_(short)
        return F.relu_(x)


class ShortRange(nn.Module):
    """BlazeFace for faces that fill an eighth of the image's side and more, as of a camera at arm's length."""

    side = 128
    anchors = ((8, 2), (16, 6))  # stride, anchors at each position

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, stride=2)
        self.fine = nn.Sequential(*_short_blocks((24, 24, 28, (32, 2), 36, 42, (48, 2), 56, 64, 72, 80, 88)))
        self.coarse = nn.Sequential(*_short_blocks((88, (96, 2), 96, 96, 96, 96)))
        self.logits = nn.ModuleList([nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)])
        self.offsets = nn.ModuleList([nn.Conv2d(88, 2 * 16, 1), nn.Conv2d(96, 6 * 16, 1)])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find candidates at every anchor.

        Args:
            images: (B, 3, H, W) in [-1, 1], RGB; H and W are multiples of 16.

        Returns:
            Logits (B, N) and offsets (B, N, 16), in pixels, from the anchor: box center, box width and height, which
            are no offsets, and six points.
        """
        fine = self.fine(F.relu_(self.stem(F.pad(images, (1, 2, 1, 2)))))
        maps = (fine, self.coarse(fine))
        logits = [_anchors_last(layer(x), 1) for layer, x in zip(self.logits, maps, strict=True)]
        offsets = [_anchors_last(layer(x), 16) for layer, x in zip(self.offsets, maps, strict=True)]
        return torch.cat(logits, 1)[..., 0], torch.cat(offsets, 1)


def _short_blocks(channels: Sequence[int | tuple[int, int]]) -> list[nn.Module]:
    pairs = [c if isinstance(c, tuple) else (c, 1) for c in channels]
    return [ShortBlock(before[0], *after) for before, after in pairwise(pairs)]


def _anchors_last(x: Tensor, values: int) -> Tensor:
    """(B, anchors * values, H, W) -> (B, H * W * anchors, values)."""
    return rearrange(x, "b (a v) h w -> b (h w a) v", v=values)


class FullBlock(nn.Module):
    """Two pairs of depthwise and pointwise convolution through a bottleneck; a shortcut unless the shape changes."""

    def __init__(self, c_in: int, bottleneck: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride, padding=1, groups=c_in)
        self.reduce = nn.Conv2d(c_in, bottleneck, 1)
        self.bottleneck = nn.Conv2d(bottleneck, bottleneck, 3, padding=1, groups=bottleneck)
        self.expand = nn.Conv2d(bottleneck, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        y = self.expand(self.bottleneck(F.relu_(self.reduce(self.depthwise(x)))))
        return F.relu_(y if y.shape != x.shape else y.add_(x))


class FullRange(nn.Module):
    """BlazeFace for smaller faces, as of a camera at the other end of the room: a feature pyramid of stride 4."""

    side = 192
    anchors = ((4, 1),)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        widths = ((32, 8, 32, 2), (32, 16, 64, 3), (64, 32, 128, 3), (128, 48, 192, 3), (192, 96, 384, 4))
        self.down = nn.ModuleList(_stage(*width, stride=1 if i == 0 else 2) for i, width in enumerate(widths))
        self.across = nn.ModuleList([nn.Conv2d(64, 48, 1), nn.Conv2d(128, 64, 1), nn.Conv2d(192, 96, 1)])
        self.shrink = nn.ModuleList([nn.Conv2d(384, 96, 1), nn.Conv2d(96, 64, 1), nn.Conv2d(64, 48, 1)])
        self.up = nn.ModuleList([_stage(96, 48, 96, 2), _stage(64, 32, 64, 2), _stage(48, 24, 48, 1)])
        self.logits = _full_head(4)
        self.offsets = _full_head(64)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find candidates, as [`ShortRange`][depthaware.faces.blazeface.ShortRange]; H and W are multiples of 32."""
        x, maps = self.down[0](F.relu_(self.stem(images))), []
        for stage, across in zip(self.down[1:4], self.across, strict=True):
            x = stage(x)
            maps.append(F.relu_(across(x)))
        x = self.down[4](x)
        for up, shrink in zip(self.up, self.shrink, strict=True):
            x = F.interpolate(F.relu_(shrink(x)), scale_factor=2.0, mode="bilinear")
            x = up(x.add_(maps.pop()))
        return _depth_to_space(self.logits(x), 1)[..., 0], _depth_to_space(self.offsets(x), 16)


def _stage(c_in: int, bottleneck: int, c_out: int, blocks: int, stride: int = 1) -> nn.Sequential:
    first = FullBlock(c_in, bottleneck, c_out, stride)
    return nn.Sequential(first, *(FullBlock(c_out, bottleneck, c_out) for _ in range(blocks - 1)))


def _full_head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(48, channels, 1), nn.Conv2d(channels, channels, 3, 2, padding=1, groups=channels))


def _depth_to_space(x: Tensor, values: int) -> Tensor:
    """(B, 4 * values, H, W) -> (B, 2 H * 2 W, values)."""
    return rearrange(x, "b (dy dx v) h w -> b (h dy w dx) v", dy=2, dx=2, v=values)


def anchor_centers(anchors: Sequence[tuple[int, int]], height: int, width: int) -> Tensor:
    """Centers (N, 2) of the anchors of an image, (x, y) from its top left corner, in pixels."""
    grids = []
    for stride, count in anchors:
        y, x = (stride * (torch.arange(size // stride) + 0.5) for size in (height, width))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        grids.append(grid.reshape(-1, 1, 2).expand(-1, count, -1).reshape(-1, 2))
    return torch.cat(grids)
