"""Retrofit of the Thin-Plate-Spline Motion Model (Zhao and Zhang 2022) and generators with its structure.

In contrast to FOMM, its key points come from a ResNet without heat maps, its dense motion from a separate network, and
its decoder receives warped appearance features at every level.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..attention import CrossModalAttention
from ..keypoints import Keypoints
from .additions import DepthPyramid, depth_channels
from .lookup import check_bare, encoder_widths, find_first_convolution, find_submodule
from .mechanism import Retrofitted
from .plan import NOTHING, Plan, Site
from .storage import Pair, load_additions, save_retrofit

__all__ = ["Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]


def retrofit(
    kp_detector: nn.Module,
    generator: nn.Module,
    depth_net: nn.Module,
    *,
    fdn: bool = True,
    cam: bool = True,
    levels: int = 1,
) -> Pair:
    """Add depth to a trained TPSMM; its outputs stay the same until the additions are trained.

    Args:
        kp_detector: image (B, 3, H, W) -> {"fg_kp": (B, N, 2)}.
        generator: the inpainting network, (source_image, dense_motion) -> {"prediction": (B, 3, H, W), ...}.
        depth_net: a trained `SelfSupDepthNet`, or any module image -> disparity (B, 1, h, w); it is frozen.
        fdn: give the detector depth beside the image.
        cam: apply cross-modal attention to the warped and occluded features.
        levels: number of levels with attention, deepest first; each costs 16 times the one before.

    Returns:
        Detector and generator, called as before, as a tuple with `save_pretrained` and the like. Their attributes
        include those of the given networks.

    Raises:
        ValueError: if the networks do not have the structure of TPSMM's.
    """
    check_bare(kp_detector=kp_detector, generator=generator)
    plans = _rgbd(kp_detector) if fdn else NOTHING, _attention(generator, levels) if cam else NOTHING
    options = {"family": "tpsmm", "fdn": fdn, "cam": cam, "levels": levels}
    halves = zip((kp_detector, generator), plans, strict=True)
    return Pair(*(Retrofitted(network, depth_net, plan, options) for network, plan in halves))


def load_retrofit(
    folder: str | Path,
    kp_detector: nn.Module,
    generator: nn.Module,
    depth_net: nn.Module,
    *,
    revision: str | None = None,
) -> Pair:
    """Retrofit networks with the weights that `save_retrofit` wrote, see `depthaware.retrofit.fomm.load_retrofit`."""
    return load_additions(folder, retrofit, (kp_detector, generator, depth_net), "tpsmm", revision=revision)


def keypoints(kp: Mapping[str, Tensor]) -> Keypoints:
    """Convert TPSMM's dictionary of key points to `Keypoints`, for losses and motion transfer."""
    if "fg_kp" not in kp:
        raise ValueError(f"key points: expected 'fg_kp', found {', '.join(kp) or 'nothing'}")
    return Keypoints(kp["fg_kp"])


def _rgbd(kp_detector: nn.Module) -> Plan:
    """Depth channel of the first convolution of the ResNet, the only one with the image as input, at full size."""
    return Plan(nn.Identity(), depth_channels(kp_detector, [find_first_convolution(kp_detector, 3, "kp_detector")]))


def _attention(generator: nn.Module, levels: int) -> Plan:
    """Attention on the last channels of each level's first residual block: the warped and occluded feature."""
    path = find_submodule(generator, "resblock", "generator")
    widths = encoder_widths(generator)
    if not 1 <= levels < len(widths):
        raise ValueError(f"levels: expected 1 to {len(widths) - 1}, got {levels}")
    deepest_first = widths[: -levels - 1 : -1]
    sites = [
        Site(f"{path}.{2 * i}", CrossModalAttention(width), "before", channels=width)
        for i, width in enumerate(deepest_first)
    ]
    return Plan(DepthPyramid(widths, levels=levels), sites)
