"""Retrofit of FOMM, the First Order Motion Model (Siarohin et al. 2019), and generators with its structure.

`retrofit` accepts networks of the authors' code, or those of `load_fomm`, which does not need it.
"""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ..attention import CrossModalAttention
from ..blocks import AntiAliasDownsample
from .additions import DepthPyramid, depth_channels
from .fomm_networks import FOMMGenerator, FOMMKeypointDetector, keypoints, load_fomm
from .lookup import check_bare, encoder_widths, find_first_convolution, find_submodule
from .mechanism import Retrofitted
from .merging import merge
from .plan import NOTHING, Plan, Site
from .storage import Pair, load_additions, save_retrofit

__all__ = [
    "FOMMGenerator",
    "FOMMKeypointDetector",
    "Retrofitted",
    "keypoints",
    "load_fomm",
    "load_retrofit",
    "merge",
    "retrofit",
    "save_retrofit",
]


def retrofit(
    kp_detector: nn.Module, generator: nn.Module, depth_net: nn.Module, *, fdn: bool = True, cam: bool = True
) -> Pair:
    """Add depth to a trained FOMM; its outputs stay the same until the additions are trained.

    Args:
        kp_detector: image (B, 3, H, W) -> {"value": (B, N, 2), "jacobian": (B, N, 2, 2)}.
        generator: (source_image, kp_driving=..., kp_source=...) -> {"prediction": (B, 3, H, W), ...}.
        depth_net: a trained `SelfSupDepthNet`, or any module image -> disparity (B, 1, h, w); it is frozen.
        fdn: give the detector depth beside the image (the paper's face depth network).
        cam: apply cross-modal attention to the warped and occluded feature, before the decoder.

    Returns:
        Detector and generator, called as before, as a tuple with `save_pretrained` and the like. Their attributes
        include those of the given networks.

    Raises:
        ValueError: if the networks do not have the structure of FOMM's.

    Reference:
        Hong et al. 2022, section 4.4, Table 4.
    """
    check_bare(kp_detector=kp_detector, generator=generator)
    plans = _rgbd(kp_detector) if fdn else NOTHING, _attention(generator) if cam else NOTHING
    options = {"family": "fomm", "fdn": fdn, "cam": cam}
    halves = zip((kp_detector, generator), plans, strict=True)
    pair = Pair(*(Retrofitted(network, depth_net, plan, options) for network, plan in halves))
    pair[1].register_forward_pre_hook(partial(_check_call, pair[1].arguments), with_kwargs=True)
    return pair


def load_retrofit(
    folder: str | Path,
    kp_detector: nn.Module,
    generator: nn.Module,
    depth_net: nn.Module,
    *,
    revision: str | None = None,
) -> Pair:
    """Retrofit networks with the weights that `save_retrofit` wrote.

    Args:
        folder: written by `save_retrofit`, or the id of a Hub repository.
        kp_detector: with the weights from before the retrofit; replaced if everything was saved.
        generator: likewise.
        depth_net: of the same architecture as the saved one, whose weights replace its own.
        revision: branch, tag or commit of the Hub repository.

    Returns:
        As of `retrofit`.

    Raises:
        ValueError: if the folder holds no retrofit of FOMM, or a network does not fit.
    """
    return load_additions(folder, retrofit, (kp_detector, generator, depth_net), "fomm", revision=revision)


def _rgbd(kp_detector: nn.Module) -> Plan:
    """Depth channels of the first convolution and of both heads, whose input is image and hourglass features."""
    paths = [
        find_first_convolution(kp_detector, 3, "kp_detector"),
        find_submodule(kp_detector, "kp", "kp_detector"),
    ]
    jacobian = paths[1].removesuffix("kp") + "jacobian"
    paths += [path for path, _ in kp_detector.named_modules() if path == jacobian]
    return Plan(AntiAliasDownsample(1, _scale(kp_detector)), depth_channels(kp_detector, paths))


def _scale(kp_detector: nn.Module) -> float:
    """Scale of the detector's input relative to the image, measured on a test image."""
    if not any(path.rpartition(".")[2] == "down" for path, _ in kp_detector.named_modules()):
        return 1.0
    down = kp_detector.get_submodule(find_submodule(kp_detector, "down", "kp_detector"))
    image = next(kp_detector.parameters()).new_zeros(1, 3, 64, 64)
    return down(image).shape[-1] / 64


def _attention(generator: nn.Module) -> Plan:
    find_submodule(generator, "dense_motion_network", "generator")  # a generator without it warps nothing
    widths = encoder_widths(generator)
    path = find_submodule(generator, "bottleneck", "generator")  # its input is the warped and occluded feature
    return Plan(DepthPyramid(widths), [Site(path, CrossModalAttention(widths[-1]), "before")])


def _check_call(names: list[str], generator: nn.Module, args: Any, kwargs: Any) -> None:
    """Refuse key points with Jacobians on one side only, which some networks silently ignore."""
    given = dict(zip(names, args, strict=False)) | kwargs
    if "kp_driving" in given and "kp_source" in given:
        kp_driving, kp_source = given["kp_driving"], given["kp_source"]
        driving, source = keypoints(kp_driving), keypoints(kp_source)
        if (driving.jacobian is None) != (source.jacobian is None):
            raise ValueError(f"key points: kp_driving has {', '.join(kp_driving)}, kp_source {', '.join(kp_source)}")
