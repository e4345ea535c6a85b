"""Depth for the Thin-Plate-Spline Motion Model (Zhao and Zhang 2022), and for what is built like it.

Unlike FOMM its key points come from a ResNet without heat maps, its dense motion from a network apart, and its decoder
takes in the warped appearance at every level.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..attention import CrossModalAttention
from ..keypoints import Keypoints
from .additions import DepthPyramid, rgbd
from .lookup import check_bare, encoder_widths, find, first_convolution
from .mechanism import NOTHING, Plan, Retrofitted, Site
from .storage import load, save_retrofit

__all__ = ["Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]


def retrofit(
    kp_detector: nn.Module,
    generator: nn.Module,
    depth_net: nn.Module,
    *,
    fdn: bool = True,
    cam: bool = True,
    levels: int = 1,
) -> tuple[Retrofitted, Retrofitted]:
    """Give a trained TPSMM depth; its outputs stay the same until what is new is trained.

    Args:
        kp_detector: image (B, 3, H, W) -> {"fg_kp": (B, N, 2)}.
        generator: the inpainting network, (source_image, dense_motion) -> {"prediction": (B, 3, H, W), ...}.
        depth_net: a trained `SelfSupDepthNet`, or any image -> disparity (B, 1, h, w); gets frozen.
        fdn: the detector sees depth beside the image.
        cam: cross-modal attention on the warped and occluded features.
        levels: on how many of them, deepest first; each costs 16 times the one before.

    Returns:
        Both, to be called as before. Besides `trainable_parameters` and `remove` they have what the given ones have.

    Raises:
        ValueError: if the two are not built like TPSMM's; says what was looked for and what was found.
    """
    check_bare(kp_detector=kp_detector, generator=generator)
    plans = _rgbd(kp_detector) if fdn else NOTHING, _attention(generator, levels) if cam else NOTHING
    options = {"family": "tpsmm", "fdn": fdn, "cam": cam, "levels": levels}
    return Retrofitted(kp_detector, depth_net, plans[0], options), Retrofitted(generator, depth_net, plans[1], options)


def load_retrofit(
    folder: str | Path, kp_detector: nn.Module, generator: nn.Module, depth_net: nn.Module
) -> tuple[Retrofitted, Retrofitted]:
    """`retrofit` with the weights that `save_retrofit` wrote; all as in `integrations.fomm`."""
    return load(folder, retrofit, (kp_detector, generator, depth_net), "tpsmm")


def keypoints(kp: Mapping[str, Tensor]) -> Keypoints:
    """TPSMM's dictionary of key points as this library's, for its losses and its motion transfer."""
    if "fg_kp" not in kp:
        raise ValueError(f"key points: looked for 'fg_kp', found {', '.join(kp) or 'nothing'}")
    return Keypoints(kp["fg_kp"])


def _rgbd(kp_detector: nn.Module) -> Plan:
    """Its ResNet sees the image at full size, and once."""
    return Plan(nn.Identity(), rgbd(kp_detector, [first_convolution(kp_detector, 3, "kp_detector")]))


def _attention(generator: nn.Module, levels: int) -> Plan:
    """Each level has two residual blocks, whose input ends with that level's warped and occluded feature."""
    path = find(generator, "resblock", "generator")
    widths = encoder_widths(generator)
    if not 1 <= levels < len(widths):
        raise ValueError(f"levels: expected 1 to {len(widths) - 1}, got {levels}")
    deepest_first = widths[: -levels - 1 : -1]
    sites = [Site(f"{path}.{2 * i}", AttendLast(width), "before") for i, width in enumerate(deepest_first)]
    return Plan(DepthPyramid(widths, levels=levels), sites)


class AttendLast(CrossModalAttention):
    """Attention on the last `channels` of a feature, which is what the decoder has not made of it yet."""

    def forward(self, depth_feature: Tensor, feature: Tensor) -> Tensor:
        """(B, C, h, w) and (B, D + C, h, w) -> (B, D + C, h, w)."""
        decoded, warped = feature.split((feature.shape[1] - depth_feature.shape[1], depth_feature.shape[1]), dim=1)
        return torch.cat((decoded, super().forward(depth_feature, warped)), dim=1)
