"""Retrofit of LivePortrait (Guo et al. 2024): its motion extractor and its warping network.

The warping network receives features of the source and not the image, so that its depth is given to each call, or
with `with_depth` to all calls of a loop: `warping.encode_depth(source)`.
"""

from typing import Any

from torch import nn

from .family import Family
from .lookup import find_submodule
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["LIVEPORTRAIT", "Retrofitted", "load_retrofit", "retrofit", "save_retrofit"]


def _widths(warping_module: nn.Module) -> list[int]:
    """Channels of a feature at a quarter of the image size, and of an encoder that leads there by doubling them."""
    fourth: Any = warping_module.get_submodule(find_submodule(warping_module, "fourth", "warping_module"))
    width = fourth.out_channels
    return [width // 4, width // 2, width]


LIVEPORTRAIT = Family(
    "liveportrait",
    "LivePortrait",
    networks=("motion_extractor", "warping_module"),
    detector=("fc_kp",),
    generator=("dense_motion_network", "third", "fourth"),
    absent=("first",),  # features come from outside
    output="out",
    widths=_widths,
    arguments=(),  # key points are plain tensors
)
"""Declaration of LivePortrait; its generator is the warping network, before the decoder."""

retrofit, load_retrofit = LIVEPORTRAIT.retrofit, LIVEPORTRAIT.load_retrofit
