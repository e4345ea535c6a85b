"""Injection of depth into trained third-party generators, whose code stays unchanged.

A `Family` finds the submodules where depth enters and describes them in a `Plan`; `Retrofitted` wraps the
network and adds depth at these submodules through hooks.
"""

import inspect
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from ..depth import SelfSupDepthNet
from ..pretrained.fingerprint import fingerprint
from ..warp import resize
from .calls import Addition, Call, add_hook, calls_in_progress, given_depths, set_calls, set_given
from .plan import Plan
from .status import Status, status_of

DepthFeatures: TypeAlias = list[Tensor]


class Retrofitted(nn.Module):
    """Wrap a network and inject depth features of its input image; calls and results keep their form.

    Attributes that are not found here are looked up and set in the network. The depth network is frozen, as in the
    second training stage of the paper.

    Args:
        model: network whose first argument is the image (B, 3, H, W); any, if depth is always given.
        depth_net: image -> disparity (B, 1, h, w), or a pyramid of disparities, finest first.
        plan: from the file of the family.
        options: JSON-able arguments that rebuild this object, stored with the weights.

    Attributes:
        arguments: names of the network's arguments.
        strength: of the additions, 1 as trained, 0 without depth; not stored.
    """

    def __init__(self, model: nn.Module, depth_net: nn.Module, plan: Plan, options: dict[str, Any]) -> None:
        super().__init__()
        like = next(model.parameters())
        self.register_module("model", None)  # first in the state dict, but last here: see `__setattr__`
        self.depth_net = depth_net.requires_grad_(False).to(like) if plan.sites else None
        self.depth_encoder = plan.encoder.to(like)
        self.additions = nn.ModuleList(site.addition for site in plan.sites).to(like)
        self.options = options
        self.fingerprint = fingerprint(model)
        self.strength = 1.0
        self._removed = False
        self._sites = plan.sites
        self._owner = uuid.uuid4().hex
        bare = getattr(model, "_orig_mod", model)  # of a compiled network, which hides its signature
        self.arguments = list(inspect.signature(bare.forward).parameters)
        self._hooks = [add_hook(model, site, self._owner) for site in plan.sites]
        self.model = model
        self.register_load_state_dict_pre_hook(_accept_bare_weights)
        self.train(model.training)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes of the network, such as FOMM's `num_channels`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the network, such as FOMM's `temperature`, unless this module has one of that name."""
        modules = self.__dict__.get("_modules", {})  # absent at first
        model = modules.get("model")
        own = name in self.__dict__ or name in modules or hasattr(type(self), name)
        if own or model is None or not hasattr(model, name):
            super().__setattr__(name, value)
        else:
            setattr(model, name, value)

    def train(self, mode: bool = True) -> "Retrofitted":
        """Set the mode of all but the frozen depth network, which keeps its batch-norm statistics."""
        super().train(mode)
        if self.depth_net is not None:
            self.depth_net.eval()
        return self

    def forward(self, *args: Any, depth: DepthFeatures | None = None, **kwargs: Any) -> Any:
        """Call the network, with depth added at its sites.

        Args:
            *args: of the network.
            depth: from `encode_depth`, batch B or 1; that of the image if None. If the network has an argument of this
                name itself, it goes there.
            **kwargs: of the network.

        Raises:
            ValueError: if the network never runs a site, or depth was removed.
        """
        if self._removed:
            raise ValueError(f"{type(self.model).__name__}: depth was removed; call the result of remove()")
        if "depth" in self.arguments and depth is not None:
            kwargs, depth = kwargs | {"depth": depth}, None
        call = Call(self._owner, self._additions(depth, args, kwargs), self.strength)
        outer = calls_in_progress()
        set_calls({**outer, self._owner: call})
        try:
            out = self.model(*args, **kwargs)
        finally:
            set_calls(outer)
        missing = [site.path for site in self._sites if site.path not in call.ran]
        if missing:
            raise ValueError(f"{type(self.model).__name__}: expected a call of {', '.join(missing)}, found none")
        call.keep(out)
        return out

    def _additions(
        self, depth: DepthFeatures | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Addition]:
        """Additions by path, with the features given to this call, or in `with_depth`, or those of the image."""
        if not self._sites:
            return {}
        if depth is None and self._owner in given_depths():
            depth = given_depths()[self._owner]
            if depth is None:
                return {}
        if depth is None:
            given = dict(zip(self.arguments, args, strict=False)) | kwargs
            image = args[0] if args else given.get(self.arguments[0])
            if not isinstance(image, Tensor) or image.ndim != 4:
                found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
                raise ValueError(f"{self.arguments[0]}: expected an image (B, 3, H, W) or depth=, found {found}")
            depth = self.encode_depth(image)
        if not isinstance(depth, (list, tuple)) or len(depth) != len(self._sites):
            raise ValueError(f"depth: expected the result of encode_depth for {len(self._sites)} sites, found another")
        pairs = zip(self._sites, self.additions, depth, strict=True)
        return {site.path: Addition(addition, feature, site.channels) for site, addition, feature in pairs}

    def disparity(self, image: Tensor) -> Tensor:
        """Disparity (B, 1, H, W) of images (B, 3, H, W) in [0, 1], from the depth network, resized to the images."""
        net = self.depth_net
        if net is None:
            raise ValueError(f"{type(self.model).__name__}: has no depth")
        found = net(image, num_scales=1) if isinstance(net, SelfSupDepthNet) else net(image)
        disparity = found[0] if isinstance(found, (tuple, list)) else found
        if not isinstance(disparity, Tensor):
            raise ValueError(f"depth_net: expected a disparity (B, 1, h, w), got {type(disparity).__name__}")
        if disparity.ndim != 4 or disparity.shape[:2] != (len(image), 1):
            raise ValueError(f"depth_net: expected a disparity ({len(image)}, 1, h, w), got {tuple(disparity.shape)}")
        return resize(disparity, image.shape[-2:], align_corners=True)

    def encode_depth(self, image: Tensor | None = None, *, disparity: Tensor | None = None) -> DepthFeatures:
        """Compute the depth features that a call adds, for many calls with one source image.

        Args:
            image: (B, 3, H, W) in [0, 1].
            disparity: (B, 1, H, W) in (0, 1), instead of the image.

        Returns:
            One feature for each site.

        Raises:
            ValueError: unless exactly one of both is given.
        """
        if image is not None and disparity is None:
            disparity = self.disparity(image)
        elif image is not None or disparity is None:
            raise ValueError("encode_depth: expected either an image or a disparity")
        features = self.depth_encoder(disparity)
        return list(features) if isinstance(features, (list, tuple)) else [features] * len(self._sites)

    @contextmanager
    def with_depth(self, depth: DepthFeatures | None) -> Iterator[None]:
        """Use features from `encode_depth` in all calls of this thread, as in a demo loop; None for no depth."""
        outer = given_depths()
        set_given({**outer, self._owner: depth})
        try:
            yield
        finally:
            set_given(outer)

    def disable(self) -> Any:
        """Leave depth out of all calls of this thread in a `with` block."""
        return self.with_depth(None)

    def trainable_parameters(self, group: Literal["new", "all"] = "new") -> list[nn.Parameter]:
        """Parameters for an optimizer: those added ("new"), or those and the network's ("all")."""
        if group not in ("new", "all"):
            raise ValueError(f"trainable_parameters: expected 'new' or 'all', got {group!r}")
        parts = [self.depth_encoder, self.additions] + ([self.model] if group == "all" else [])
        return [parameter for part in parts for parameter in part.parameters()]

    def parameter_groups(self, lr: float = 2e-5, new_lr: float = 2e-4) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer.

        Args:
            lr: learning rate of the network's own parameters, without those that are frozen; 0 leaves all out.
            new_lr: of the added ones, which start from nothing.
        """
        old = [parameter for parameter in self.model.parameters() if parameter.requires_grad and lr]
        groups = [{"params": self.trainable_parameters("new"), "lr": new_lr}, {"params": old, "lr": lr}]
        return [group for group in groups if group["params"]]

    def status(self) -> Status:
        """Describe what was added where, and how far it is from the start."""
        return status_of(self, [site.path or f"output {site.entry!r}" for site in self._sites])

    def print_trainable_parameters(self) -> None:
        """Print the numbers of new, trainable and all parameters."""
        print(self.status().summary)

    def remove(self) -> nn.Module:
        """Remove depth and return the network, with the weights that it has now."""
        for hook in self._hooks:
            hook.remove()
        self._removed = True
        return self.model


def _accept_bare_weights(part: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a state dict from before the retrofit load as well, strictly; the additions stay as they are then."""
    own = part.state_dict(prefix=prefix)
    bare = part.get_submodule("model").state_dict(prefix=prefix)
    given = [key for key in state if key.startswith(prefix)]
    if any(key in own for key in given if key not in bare) or not any(key in bare for key in given):
        return
    tensors = {f"{prefix}model.{key.removeprefix(prefix)}": state.pop(key) for key in given}
    state.update({key: value for key, value in own.items() if not key.startswith(f"{prefix}model.")} | tensors)
