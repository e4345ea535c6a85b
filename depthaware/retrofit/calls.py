"""Calls of retrofitted networks: what the hooks at their sites look up, in the call and when it is recomputed.

Gradient checkpointing runs a site again in the backward pass, after the call, and on a GPU in another thread. Such a
run belongs to the call in which the site got the same input, and adds the depth of that call.
"""

import threading
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .plan import Site

_SAMPLE = 256  # values of an input that are kept, to recognize it


class Addition(NamedTuple):
    """Addition of a call at a site."""

    module: nn.Module
    depth_feature: Tensor
    channels: int | None


class _Run(NamedTuple):
    """One run of a site, by the submodule itself, which copies of a network do not share."""

    site: nn.Module
    path: str
    shape: torch.Size
    sample: Tensor


class Call:
    """One call of a retrofitted network.

    Args:
        owner: of the hooks that take part.
        additions: by path of the site; empty for a call without depth.
        strength: of the additions.
    """

    def __init__(self, owner: str, additions: dict[str, Addition], strength: float) -> None:
        self.owner, self.additions, self.strength = owner, additions, strength
        self.task = _graph_task()
        self.keeps = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        self.ran: set[str] = set()
        self.runs: list[_Run] = []

    def keep(self, out: Any) -> None:
        """Keep this call for as long as the graph of its outputs lives."""
        if self.keeps and self.runs:
            for tensor in _tensors(out):
                if tensor.grad_fn is not None:
                    metadata: Any = tensor.grad_fn.metadata  # lives as long as the node
                    metadata.setdefault("depthaware.retrofit", []).append(self)
            with _lock:
                _kept.add(self)


# Calls in progress by owner; per thread, since DataParallel runs its replicas in threads.
_local = threading.local()
_kept: weakref.WeakSet[Call] = weakref.WeakSet()
_lock = threading.Lock()


def calls_in_progress() -> dict[str, Call]:
    """Calls of this thread by owner."""
    return getattr(_local, "calls", {})


def set_calls(calls: dict[str, Call]) -> None:
    """Replace the calls of this thread."""
    _local.calls = calls


def given_depths() -> dict[str, Any]:
    """Depth features that replace those of the image in calls of this thread, by owner; None for no depth."""
    return getattr(_local, "given", {})


def set_given(given: dict[str, Any]) -> None:
    """Replace the given depths of this thread."""
    _local.given = given


def add_hook(model: nn.Module, site: Site, owner: str) -> RemovableHandle:
    """Hook a site of a network."""
    module = model.get_submodule(site.path)
    if site.when == "before":
        return module.register_forward_pre_hook(partial(_before, owner, site.path))
    return module.register_forward_hook(partial(_after, owner, site.path, site.entry))


def _before(owner: str, path: str, site: nn.Module, args: tuple[Any, ...]) -> Any:
    return (_add(owner, path, site, args[0] if args else None), *args[1:])


def _after(owner: str, path: str, entry: str | None, site: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if entry is None:
        return _add(owner, path, site, output)
    if not isinstance(output, Mapping) or entry not in output:
        found = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
        raise ValueError(f"{type(site).__name__}: expected an output with {entry!r}, found {found}")
    return {**output, entry: _add(owner, path, site, output[entry])}


def _add(owner: str, path: str, site: nn.Module, x: Any) -> Any:
    call = calls_in_progress().get(owner)
    if call is None or call.task != _graph_task():
        return _add_again(owner, path, site, x)
    if not isinstance(x, Tensor):
        raise ValueError(f"{path}: expected a tensor as its first input or its output, found {type(x).__name__}")
    call.ran.add(path)
    if call.keeps:
        call.runs.append(_Run(site, path, x.shape, _sample(x)))
    return _apply(call.additions[path], call.strength, x) if call.additions else x


def _add_again(owner: str, path: str, site: nn.Module, x: Any) -> Any:
    """Repeat the addition of an earlier call in its backward pass; other runs are calls of the bare network."""
    call = _earlier(owner, path, site, x) if _graph_task() != -1 else None
    if call is None or not call.additions:
        return x
    addition = call.additions[path]
    return _apply(addition._replace(depth_feature=_leaf(addition.depth_feature)), call.strength, x)


def _leaf(feature: Tensor) -> Tensor:
    """The same values in a graph of their own, whose gradient goes on to that of `feature`, as often as it comes."""
    if not feature.requires_grad or not torch.is_grad_enabled():
        return feature
    leaf = feature.detach().requires_grad_()
    leaf.register_hook(lambda grad: torch.autograd.backward(feature, grad, retain_graph=True))
    return leaf


def _earlier(owner: str, path: str, site: nn.Module, x: Tensor) -> Call | None:
    """The earlier call in which the site got this input, or the closest, should an operation not be deterministic."""
    with _lock:
        calls = [call for call in _kept if call.owner == owner]
    key, sample = (site, path, x.shape), _sample(x)
    found = [(call, run.sample) for call in calls for run in call.runs if run[:3] == key]
    found = [(call, other) for call, other in found if other.device == sample.device]
    if len({call for call, _ in found}) <= 1:
        return found[0][0] if found else None
    distances = torch.stack([(other.float() - sample.float()).abs().sum() for _, other in found]).tolist()
    nearest = [call for (call, _), distance in zip(found, distances, strict=True) if distance == min(distances)]
    if not all(_same(call, nearest[0], path) for call in nearest):
        raise ValueError(f"{path}: recomputed for calls with equal input but different depth; call backward after each")
    return nearest[0]


def _same(a: Call, b: Call, path: str) -> bool:
    if a is b or not (a.additions or b.additions):
        return True
    if not (a.additions and b.additions) or a.strength != b.strength:
        return False
    return torch.equal(a.additions[path].depth_feature, b.additions[path].depth_feature)


def _apply(addition: Addition, strength: float, x: Tensor) -> Tensor:
    unchanged, last = x[:, :0], x
    if addition.channels is not None:
        unchanged, last = x.split((x.shape[1] - addition.channels, addition.channels), dim=1)
    added = addition.module(addition.depth_feature, last).to(x.dtype)  # autocast may have changed it
    if strength != 1:
        added = torch.lerp(last, added, strength)
    return added if addition.channels is None else torch.cat((unchanged, added), dim=1)


def _graph_task() -> int:
    """Number of the backward pass that this thread is in, -1 outside."""
    return -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()


def _sample(x: Tensor) -> Tensor:
    x = x.detach().flatten()
    return x[:: max(1, len(x) // _SAMPLE)].clone()


def _tensors(out: Any) -> Iterator[Tensor]:
    """Tensors in nested results."""
    if isinstance(out, Tensor):
        yield out
        return
    if not isinstance(out, (Mapping, list, tuple)):
        out = getattr(out, "__dict__", {})
    for value in out.values() if isinstance(out, Mapping) else out:
        yield from _tensors(value)
