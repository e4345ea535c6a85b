"""Convolutions of up-sampled feature maps computed at half their resolution: equal results with less arithmetic.

A map (B, C, 2h, 2w) consists of four phases: its even or odd rows and its even or odd columns. After nearest
up-sampling all are equal, so that a 3 x 3 convolution takes 4 products in place of 9; and for maps with few channels,
four times as many at a quarter of the positions use a processor's registers better (Shi et al. 2016, section 2.2).

Phases are staggered here: row i of the map is row (i + 1) // 2 of its phase, which gives each phase h + 1 rows, one of
them padding, the even ones' last and the odd ones' first; columns likewise. So all four share the same window.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampledConv(nn.Module):
    """Nearest up-sampling by 2, then a 3 x 3 convolution of "same" padding with zeros or by reflection.

    Args:
        conv: the layer after the up-sampling; its weights are copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        _check(conv, 3)
        weight = _between_phases(conv.weight.detach(), staggered_input=False).sum((3, 4))
        self.conv = _conv(weight.flatten(0, 2), _bias(conv).repeat(4), padding=1)
        if conv.padding_mode == "reflect":  # up-sampled rows come in pairs, so the reflection of the first is its copy
            self.conv.padding_mode = "replicate"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, O, 2h, 2w)."""
        staggered = self.staggered(x)
        if torch.compiler.is_exporting():  # in graphs, slices are written by slow scattering
            return _interleave(staggered)
        batch, channels, height, width = len(x), staggered.shape[1] // 4, *x.shape[-2:]
        layout = torch.channels_last if staggered.stride(1) == 1 else torch.contiguous_format
        size = batch, channels, 2 * height, 2 * width
        out = torch.empty(size, dtype=staggered.dtype, device=staggered.device, memory_format=layout)
        for a, b, phase in _phases(staggered):
            out[:, :, a::2, b::2] = phase[:, :, a : a + height, b : b + width]
        return out

    def staggered(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> staggered phases (B, 4·O, h + 1, w + 1), the padding not yet filled."""
        return self.conv(x)


class PhaseConv(nn.Module):
    """A 3 x 3 or 7 x 7 convolution of "same" padding, zeros or (3 x 3) reflection, of a map given as phases.

    Args:
        conv: of the whole map; its weights are copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        _check(conv, 3, 7)
        weight = _between_phases(conv.weight.detach(), staggered_input=True)
        weight = weight.permute(2, 0, 1, 3, 4, 5, 6, 7).flatten(0, 2).flatten(1, 3)
        self.conv = _conv(weight, _bias(conv).repeat_interleave(4), padding=conv.kernel_size[0] // 4)
        self.reflect = conv.padding_mode == "reflect"

    def forward(self, phases: Tensor) -> Tensor:
        """Staggered phases (B, 4·C, h + 1, w + 1), whose padding is overwritten, -> (B, O, 2h, 2w)."""
        if torch.compiler.is_exporting():
            return F.pixel_shuffle(self.conv(_repeat_edges(phases) if self.reflect else _zero_padding(phases)), 2)
        for a, b, phase in _phases(phases):
            # Reflection maps positions beyond the first or last row to its neighbor: in that phase, the next row.
            phase[:, :, -1 + a] = phase[:, :, -2 + 3 * a] if self.reflect else 0
            phase[..., -1 + b] = phase[..., -2 + 3 * b] if self.reflect else 0
        return F.pixel_shuffle(self.conv(phases), 2)


def _phases(staggered: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    for index, phase in enumerate(staggered.chunk(4, dim=1)):
        yield index // 2, index % 2, phase


def _interleave(staggered: Tensor) -> Tensor:
    """The map of staggered phases; row 2i + 1 - a of the shuffled one is row i of phase a, with one more around it."""
    reverse = staggered.unflatten(1, (4, -1)).flip(1).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(reverse, 2)[..., 1:-1, 1:-1].clone()  # not a view, into which a layer might write


def _repeat_edges(phases: Tensor) -> Tensor:
    """Staggered phases whose padding is the row or column next to it."""
    height, width = (size - 1 for size in phases.shape[-2:])
    inner = [(a, b, phase[:, :, a : a + height, b : b + width]) for a, b, phase in _phases(phases)]
    return torch.cat([F.pad(phase, (b, 1 - b, a, 1 - a), mode="replicate") for a, b, phase in inner], dim=1)


def _zero_padding(phases: Tensor) -> Tensor:
    """Staggered phases whose padding is zero."""
    rows, columns = (torch.arange(size, device=phases.device) for size in phases.shape[-2:])
    mask = [(row < row[-1], row > 0) for row in (rows, columns)]  # by phase: the even one's last, the odd one's first
    inside = torch.stack([a[:, None] & b for a in mask[0] for b in mask[1]])[:, None]
    return (phases.unflatten(1, (4, -1)) * inside.to(phases.dtype)).flatten(1, 2)


def _between_phases(weight: Tensor, *, staggered_input: bool) -> Tensor:
    """The weight (O, C, k, k) from phases to phases: (2, 2, O, 2, 2, C, m, m) with m = (k + 1) / 2."""
    radius = weight.shape[-1] // 2
    window = radius + 1
    out = weight.new_zeros(2, 2, weight.shape[0], 2, 2, weight.shape[1], window, window)

    def place(phase_out: int, tap: int) -> tuple[int, int]:
        """Phase and window position that a tap reads."""
        row, phase_in = divmod(phase_out + tap, 2)
        return phase_in, row + window // 2 + (phase_in - 1 if staggered_input else -phase_out)

    taps = [(phase, tap, *place(phase, tap)) for phase in (0, 1) for tap in range(-radius, radius + 1)]
    for a, dy, a_in, y in taps:
        for b, dx, b_in, x in taps:
            out[a, b, :, a_in, b_in, :, y, x] = weight[:, :, dy + radius, dx + radius]
    return out


def _check(conv: nn.Conv2d, *sizes: int) -> None:
    size = conv.kernel_size[0]
    modes = ("zeros", "reflect") if size == 3 else ("zeros",)
    if size not in sizes or conv.padding != (size // 2, size // 2) or conv.padding_mode not in modes:
        expected = " or ".join(f"{size} x {size}" for size in sizes)
        raise ValueError(f"conv: expected {expected} with padding to the same size, got {conv}")


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _conv(weight: Tensor, bias: Tensor, *, padding: int) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[-1], padding=padding)
    conv.weight, conv.bias = (nn.Parameter(t, requires_grad=False) for t in (weight.contiguous(), bias))
    return conv
