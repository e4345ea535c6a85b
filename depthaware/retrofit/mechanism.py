"""Injection of depth into trained third-party generators, whose code stays unchanged.

A file for each family of generators (`fomm`, `tpsmm`) finds the submodules where depth enters and describes them in a
`Plan`; `Retrofitted` wraps the network and adds depth at these submodules through hooks.
"""

import inspect
import threading
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..depth import SelfSupDepthNet
from ..pretrained.fingerprint import fingerprint
from ..warp import resize

# Additions of the current call by submodule; per thread, since DataParallel runs its replicas in threads, and outside
# the instances, since hooks are shared by replicas and copies and receive nothing but their submodule.
_call = threading.local()


class Site(NamedTuple):
    """Place where depth enters a network.

    Attributes:
        path: name of a submodule.
        addition: (depth feature, x) -> x; the identity in x before training.
        when: x is the input ("before") or the output ("after") of the submodule.
        channels: number of the last channels of x that the addition applies to; None for all.
    """

    path: str
    addition: nn.Module
    when: Literal["before", "after"]
    channels: int | None = None


class Plan(NamedTuple):
    """Description of how depth enters one network.

    Attributes:
        encoder: disparity (B, 1, H, W) -> one depth feature for all sites, or a list with one for each site.
        sites: places where depth enters.
    """

    encoder: nn.Module
    sites: list[Site]


NOTHING = Plan(nn.Identity(), [])
"""Plan of a network that stays without depth."""


class _Pending(NamedTuple):
    """Addition that the current call has not made yet."""

    addition: nn.Module
    depth_feature: Tensor
    channels: int | None


class Retrofitted(nn.Module):
    """Wrap a network and inject depth features of its input image; calls and results keep their form.

    Attributes that are not found here are looked up in the network. The depth network is frozen, as in the second
    training stage of the paper.

    Args:
        model: network whose first argument is the image (B, 3, H, W).
        depth_net: image -> disparity (B, 1, h, w), or a pyramid of disparities, finest first.
        plan: from the file of the family.
        options: JSON-able arguments that rebuild this object, stored with the weights.
    """

    def __init__(self, model: nn.Module, depth_net: nn.Module, plan: Plan, options: dict[str, Any]) -> None:
        super().__init__()
        like = next(model.parameters())
        self.model = model
        self.depth_net = depth_net.requires_grad_(False).to(like) if plan.sites else None
        self.depth_encoder = plan.encoder.to(like)
        self.additions = nn.ModuleList(site.addition for site in plan.sites).to(like)
        self.options = options
        self.fingerprint = fingerprint(model)
        self._paths = [site.path for site in plan.sites]
        self._channels = [site.channels for site in plan.sites]
        self._image = next(iter(inspect.signature(model.forward).parameters))
        self._hooks = [_hook(model.get_submodule(site.path), site.when) for site in plan.sites]
        self.train(model.training)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes of the network, such as FOMM's `num_channels`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def train(self, mode: bool = True) -> "Retrofitted":
        """Set the mode of all but the frozen depth network, which keeps its batch-norm statistics."""
        super().train(mode)
        if self.depth_net is not None:
            self.depth_net.eval()
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network, with depth added at its sites."""
        pending = self._additions(args[0] if args else kwargs[self._image])
        outer, _call.pending = getattr(_call, "pending", {}), pending
        try:
            out = self.model(*args, **kwargs)
        finally:
            _call.pending = outer
        if pending:
            raise ValueError(f"{type(self.model).__name__}: expected a call of {', '.join(self._paths)}, found none")
        return out

    def _additions(self, image: Tensor) -> dict[nn.Module, _Pending]:
        """Additions and depth features by submodule."""
        if self.depth_net is None:
            return {}
        features = self.depth_encoder(_disparity(self.depth_net, image))
        features = features if isinstance(features, list) else [features] * len(self._paths)
        sites = [self.model.get_submodule(path) for path in self._paths]
        pending = map(_Pending, self.additions, features, self._channels)
        return dict(zip(sites, pending, strict=True))

    def trainable_parameters(self, group: Literal["new", "all"] = "new") -> list[nn.Parameter]:
        """Parameters for an optimizer: those added ("new"), or those and the network's ("all")."""
        if group not in ("new", "all"):
            raise ValueError(f"trainable_parameters: expected 'new' or 'all', got {group!r}")
        parts = [self.depth_encoder, self.additions] + ([self.model] if group == "all" else [])
        return [parameter for part in parts for parameter in part.parameters()]

    def remove(self) -> nn.Module:
        """Remove depth and return the network, with the weights that it has now."""
        for hook in self._hooks:
            hook.remove()
        return self.model


def _hook(site: nn.Module, when: str) -> torch.utils.hooks.RemovableHandle:
    return site.register_forward_pre_hook(_before) if when == "before" else site.register_forward_hook(_after)


def _before(site: nn.Module, args: tuple[Any, ...]) -> Any:
    return (_add(site, args[0]), *args[1:])


def _after(site: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return _add(site, output)


def _add(site: nn.Module, x: Tensor) -> Tensor:
    pending = getattr(_call, "pending", {}).pop(site, None)
    if pending is None:
        return x
    addition, depth_feature, channels = pending
    if channels is None:
        return addition(depth_feature, x).to(x.dtype)  # autocast may have changed it
    unchanged, last = x.split((x.shape[1] - channels, channels), dim=1)
    return torch.cat((unchanged, addition(depth_feature, last).to(x.dtype)), dim=1)


def _disparity(depth_net: nn.Module, image: Tensor) -> Tensor:
    """Disparity (B, 1, H, W) of images (B, 3, H, W), resized from the resolution of the depth network."""
    found = depth_net(image, num_scales=1) if isinstance(depth_net, SelfSupDepthNet) else depth_net(image)
    disparity = found[0] if isinstance(found, (tuple, list)) else found
    if disparity.ndim != 4 or disparity.shape[:2] != (len(image), 1):
        raise ValueError(f"depth_net: expected a disparity ({len(image)}, 1, h, w), got {tuple(disparity.shape)}")
    return resize(disparity, image.shape[-2:], align_corners=True)
