"""How depth enters a generator that somebody else wrote and trained, whose code stays untouched.

A generator family answers one question for each network, with a `Plan`: at which submodules does depth come in, and as
what? Its file (`fomm`, `tpsmm`) finds those submodules; here they get hooks, and the networks their depth.
"""

import hashlib
import inspect
import threading
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..depth import SelfSupDepthNet
from ..warp import resize

# What the call under way adds at each submodule; per thread, as DataParallel runs its replicas in threads.
_call = threading.local()


class Site(NamedTuple):
    """Where depth comes in.

    Attributes:
        path: name of a submodule.
        addition: (depth feature, x) -> x, and x itself as long as it is not trained.
        when: whether x is the submodule's input ("before") or output ("after").
    """

    path: str
    addition: nn.Module
    when: Literal["before", "after"]


class Plan(NamedTuple):
    """How depth enters one network.

    Attributes:
        encoder: disparity (B, 1, H, W) -> a depth feature for all sites, or a list with one for each.
        sites: where they go.
    """

    encoder: nn.Module
    sites: list[Site]


NOTHING = Plan(nn.Identity(), [])


class Retrofitted(nn.Module):
    """Somebody's network that also sees the depth of the image it is called with; calls and results stay the same.

    Attributes that are not found here are looked up in the network. The depth network is frozen, as in the paper's
    second stage.

    Args:
        model: takes the image (B, 3, H, W) as its first argument.
        depth_net: image -> disparity, or a pyramid of it, finest first.
        plan: from the family's file.
        options: what rebuilds this, JSON-able.
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
        self._image = next(iter(inspect.signature(model.forward).parameters))
        self._hooks = [_hook(model.get_submodule(site.path), site.when) for site in plan.sites]
        self.train(model.training)

    def __getattr__(self, name: str) -> Any:
        """What scripts read from the network, like FOMM's `num_channels`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def train(self, mode: bool = True) -> "Retrofitted":
        """As of any module, but a frozen depth network keeps its batch-norm statistics, too."""
        super().train(mode)
        if self.depth_net is not None:
            self.depth_net.eval()
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own call."""
        pending = self._depths(args[0] if args else kwargs[self._image])
        outer, _call.pending = getattr(_call, "pending", {}), pending
        try:
            out = self.model(*args, **kwargs)
        finally:
            _call.pending = outer
        if pending:
            raise ValueError(f"{type(self.model).__name__}: expected a call of {', '.join(self._paths)}, found none")
        return out

    def _depths(self, image: Tensor) -> dict[nn.Module, tuple[nn.Module, Tensor]]:
        """The addition and the depth feature for each site."""
        if self.depth_net is None:
            return {}
        depths = self.depth_encoder(_disparity(self.depth_net, image))
        depths = depths if isinstance(depths, list) else [depths] * len(self._paths)
        sites = [self.model.get_submodule(path) for path in self._paths]
        return dict(zip(sites, zip(self.additions, depths, strict=True), strict=True))

    def trainable_parameters(self, group: Literal["new", "all"] = "new") -> list[nn.Parameter]:
        """What was added ("new"), or that and the network ("all"); for an optimizer."""
        if group not in ("new", "all"):
            raise ValueError(f"trainable_parameters: expected 'new' or 'all', got {group!r}")
        parts = [self.depth_encoder, self.additions] + ([self.model] if group == "all" else [])
        return [parameter for part in parts for parameter in part.parameters()]

    def remove(self) -> nn.Module:
        """Take depth out again, and return the network as it was; training it has changed its weights, of course."""
        for hook in self._hooks:
            hook.remove()
        return self.model


def _hook(site: nn.Module, when: str) -> torch.utils.hooks.RemovableHandle:
    return site.register_forward_pre_hook(_before) if when == "before" else site.register_forward_hook(_after)


# A hook may find itself in a copy or replica of the network: all it knows is the module that it is called with.
def _before(site: nn.Module, args: tuple[Any, ...]) -> Any:
    return (_add(site, args[0]), *args[1:])


def _after(site: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return _add(site, output)


def _add(site: nn.Module, x: Tensor) -> Tensor:
    addition, depth = getattr(_call, "pending", {}).pop(site, (None, None))
    return x if addition is None else addition(depth, x).to(x.dtype)  # under autocast dtypes would drift apart


def _disparity(depth_net: nn.Module, image: Tensor) -> Tensor:
    """(B, 1, H, W) for images (B, 3, H, W), whatever the resolution that the network works at."""
    found = depth_net(image, num_scales=1) if isinstance(depth_net, SelfSupDepthNet) else depth_net(image)
    disparity = found[0] if isinstance(found, (tuple, list)) else found
    if disparity.ndim != 4 or disparity.shape[:2] != (len(image), 1):
        raise ValueError(f"depth_net: expected a disparity ({len(image)}, 1, h, w), got {tuple(disparity.shape)}")
    return resize(disparity, image.shape[-2:], align_corners=True)


def fingerprint(model: nn.Module) -> str:
    """A hash of all weights and statistics."""
    digest = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
