"""Depth for FOMM, the First Order Motion Model (Siarohin et al. 2019), and for what is built like it.

`retrofit` takes networks of the authors' code, or those of `load_fomm`, which needs none of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..attention import CrossModalAttention
from ..blocks import AntiAliasDownsample
from .additions import DepthPyramid, rgbd
from .fomm_networks import FOMMGenerator, FOMMKeypointDetector, keypoints, load_fomm
from .lookup import check_bare, encoder_widths, find, first_convolution
from .mechanism import NOTHING, Plan, Retrofitted, Site
from .storage import load, save_retrofit

__all__ = [
    "FOMMGenerator",
    "FOMMKeypointDetector",
    "Retrofitted",
    "keypoints",
    "load_fomm",
    "load_retrofit",
    "retrofit",
    "save_retrofit",
]


def retrofit(
    kp_detector: nn.Module, generator: nn.Module, depth_net: nn.Module, *, fdn: bool = True, cam: bool = True
) -> tuple[Retrofitted, Retrofitted]:
    """Give a trained FOMM depth; its outputs stay the same until what is new is trained.

    Args:
        kp_detector: image (B, 3, H, W) -> {"value": (B, N, 2), "jacobian": (B, N, 2, 2)}.
        generator: (source_image, kp_driving=..., kp_source=...) -> {"prediction": (B, 3, H, W), ...}.
        depth_net: a trained `SelfSupDepthNet`, or any image -> disparity (B, 1, h, w); gets frozen.
        fdn: the detector sees depth beside the image (the paper's face depth network).
        cam: cross-modal attention on the warped and occluded feature, before the decoder.

    Returns:
        Both, to be called as before. Besides `trainable_parameters` and `remove` they have what the given ones have.

    Raises:
        ValueError: if the two are not built like FOMM's; says what was looked for and what was found.

    Reference:
        Hong et al. 2022, table 3.
    """
    check_bare(kp_detector=kp_detector, generator=generator)
    plans = _rgbd(kp_detector) if fdn else NOTHING, _attention(generator) if cam else NOTHING
    options = {"family": "fomm", "fdn": fdn, "cam": cam}
    pair = Retrofitted(kp_detector, depth_net, plans[0], options), Retrofitted(generator, depth_net, plans[1], options)
    pair[1].register_forward_pre_hook(_check_call, with_kwargs=True)
    return pair


def load_retrofit(
    folder: str | Path, kp_detector: nn.Module, generator: nn.Module, depth_net: nn.Module
) -> tuple[Retrofitted, Retrofitted]:
    """`retrofit` with the weights that `save_retrofit` wrote.

    Args:
        folder: what was written.
        kp_detector: with the weights from before the retrofit, unless all were saved; then they are replaced.
        generator: likewise.
        depth_net: of the architecture used then; its weights are replaced by those used then.

    Raises:
        ValueError: if any of the three does not fit.
    """
    return load(folder, retrofit, (kp_detector, generator, depth_net), "fomm")


def _rgbd(kp_detector: nn.Module) -> Plan:
    """The hourglass puts out its input beside its features, so the heads see RGB-D as well."""
    paths = [first_convolution(kp_detector, 3, "kp_detector"), find(kp_detector, "kp", "kp_detector")]
    jacobian = paths[1].removesuffix("kp") + "jacobian"
    paths += [path for path, _ in kp_detector.named_modules() if path == jacobian]
    return Plan(AntiAliasDownsample(1, _scale(kp_detector)), rgbd(kp_detector, paths))


def _scale(kp_detector: nn.Module) -> float:
    """How much smaller than the image key points are looked for; found by trying."""
    if not any(path.rpartition(".")[2] == "down" for path, _ in kp_detector.named_modules()):
        return 1.0
    down = kp_detector.get_submodule(find(kp_detector, "down", "kp_detector"))
    image = next(kp_detector.parameters()).new_zeros(1, 3, 64, 64)
    return down(image).shape[-1] / 64


def _attention(generator: nn.Module) -> Plan:
    find(generator, "dense_motion_network", "generator")  # without it nothing is warped
    widths = encoder_widths(generator)
    # Its input is the warped and occluded feature.
    site = Site(find(generator, "bottleneck", "generator"), CrossModalAttention(widths[-1]), "before")
    return Plan(DepthPyramid(widths), [site])


def _check_call(generator: nn.Module, args: Any, kwargs: Any) -> None:
    """Two sets of key points, and of one kind: a Jacobian in one alone is ignored by some networks, without a word."""

    def check(source_image: Tensor, kp_driving: Mapping[str, Tensor], kp_source: Mapping[str, Tensor]) -> None:
        driving, source = keypoints(kp_driving), keypoints(kp_source)
        if (driving.jacobian is None) != (source.jacobian is None):
            raise ValueError(f"key points: kp_driving has {', '.join(kp_driving)}, kp_source {', '.join(kp_source)}")

    check(*args, **kwargs)
