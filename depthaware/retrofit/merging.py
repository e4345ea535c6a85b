"""Merging of a retrofitted FOMM into a `DaGAN`, which it equals."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..dagan import DaGAN
from ..depth import SelfSupDepthNet
from ..pretrained import checkpoint, hub
from .fomm_networks import FOMMGenerator, FOMMKeypointDetector
from .mechanism import Retrofitted

# Convolutions that `fomm.retrofit` gives depth, in its order, by their names in a DaGAN.
_CHANNELS = ("hourglass.down_blocks.0.conv", "kp", "jacobian")


def merge(
    kp_detector: Retrofitted, generator: Retrofitted, *, image_size: int = 256, align_corners: bool | None = None
) -> DaGAN:
    """Merge a retrofitted FOMM into a `DaGAN`, to save, share, animate, evaluate and export it as one.

    Args:
        kp_detector: from `fomm.retrofit`.
        generator: from the same call.
        image_size: side of the square images that the weights were trained on.
        align_corners: sampling, see `warp`. If None, that of `load_fomm`, and False for networks of FOMM's code, which
            samples so under a PyTorch from 1.3 on.

    Returns:
        A model with copies of the weights, in eval mode.

    Raises:
        ValueError: if the networks are not those of a retrofitted FOMM, or have what a `DaGAN` has not: another
            temperature, strength or kind of depth network.
    """
    for name, part in {"kp_detector": kp_detector, "generator": generator}.items():
        if not isinstance(part, Retrofitted) or part.options.get("family") != "fomm":
            raise ValueError(f"{name}: expected the result of fomm.retrofit, got {type(part).__name__}")
        if part.strength != 1 and len(part.additions):
            raise ValueError(f"{name}: expected strength 1, got {part.strength}")
    options, tensors = _base(kp_detector.model, generator.model, align_corners)
    options |= {"image_size": image_size}
    if len(kp_detector.additions):
        options["keypoint_input"] = "rgbd"
        for name, addition in zip(_CHANNELS, kp_detector.additions, strict=False):
            key = f"kp_detector.{name}.weight"
            tensors[key] = torch.cat((tensors[key], addition.get_parameter("conv.weight").detach()), dim=1)
    if len(generator.additions):
        options["attention"] = "cross"
        tensors |= _named("generator.depth_encoder", generator.depth_encoder)
        tensors |= _named("generator.attention", generator.additions[0])
    depth_net = kp_detector.depth_net or generator.depth_net
    if depth_net is not None:
        if not isinstance(depth_net, SelfSupDepthNet):
            raise ValueError(f"depth_net: expected a SelfSupDepthNet, got {type(depth_net).__name__}")
        config = depth_net.config
        options |= {"depth_encoder": config["encoder"], "depth_channels": config["decoder_channels"]}
        options |= {"depth_range": config["depth_range"]}
        tensors |= _named("depth_net", depth_net)
    model: Any = DaGAN(**options)
    detector: Any = getattr(kp_detector.model, "detector", kp_detector.model)  # of load_fomm, or FOMM's own
    found = getattr(detector, "temperature", model.kp_detector.temperature)
    if found != model.kp_detector.temperature:
        raise ValueError(f"kp_detector: expected the temperature {model.kp_detector.temperature}, got {found}")
    hub.fill(model, tensors, "merged")
    return model.to(next(generator.parameters())).eval()


def _base(
    kp_detector: nn.Module, generator: nn.Module, align_corners: bool | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and weights of the FOMM itself, as a `DaGAN` without depth names them."""
    if isinstance(kp_detector, FOMMKeypointDetector) and isinstance(generator, FOMMGenerator):
        if align_corners not in (None, generator.config["align_corners"]):
            raise ValueError(f"align_corners: load_fomm was called with {generator.config['align_corners']}")
        tensors = _named("kp_detector", kp_detector.detector) | _named("generator", generator.generator)
        return dict(generator.config), tensors | _named("dense_motion", generator.dense_motion_network)
    parts = {"kp_detector": kp_detector.state_dict(), "generator": generator.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fomm.pth.tar"
        torch.save(parts, path)
        return checkpoint.read_model(path, align_corners=bool(align_corners))


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": tensor.detach() for key, tensor in module.state_dict().items()}
