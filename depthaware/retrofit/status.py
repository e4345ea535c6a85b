"""Report on a retrofitted network."""

from typing import Any, NamedTuple

from torch import Tensor, nn


class SiteStatus(NamedTuple):
    """State of an addition.

    Attributes:
        path: submodule at which it is made.
        addition: name of its class.
        gate: of an attention, or the largest weight of a depth channel; 0 before training. None if it has neither.
        parameters: number of them.
    """

    path: str
    addition: str
    gate: float | None
    parameters: int


class Status(NamedTuple):
    """State of a retrofitted network; `str` makes a table of it.

    Attributes:
        network: name of its class.
        sites: one for each addition.
        depth_net: name of the class of the depth network, or None without depth.
        new: number of added parameters, of the additions and the encoder of their depth features.
        trainable: number of parameters that require gradients.
        total: number of all parameters, those of the depth network included.
    """

    network: str
    sites: list[SiteStatus]
    depth_net: str | None
    new: int
    trainable: int
    total: int

    @property
    def summary(self) -> str:
        """Numbers of parameters in one line."""
        percent = 100 * self.trainable / self.total
        return (
            f"new params: {self.new:,} || trainable params: {self.trainable:,} || all params: {self.total:,} || "
            f"trainable%: {percent:.4f}"
        )

    def __str__(self) -> str:
        lines = [f"{self.network} with depth from {self.depth_net}" if self.depth_net else f"{self.network}, no depth"]
        for site in self.sites:
            gate = "-" if site.gate is None else f"{site.gate:.4g}"
            lines.append(f"  {site.path}: {site.addition}, gate {gate}, {site.parameters:,} params")
        return "\n".join([*lines, self.summary])


def status_of(part: Any, paths: list[str]) -> Status:
    """Status of a `Retrofitted` with sites at `paths`."""
    sites = [
        SiteStatus(path, type(addition).__name__, _gate(addition), _count(addition))
        for path, addition in zip(paths, part.additions, strict=True)
    ]
    trainable = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
    depth_net = part.depth_net and type(part.depth_net).__name__
    new = _count(part.additions) + _count(part.depth_encoder)
    return Status(type(part.model).__name__, sites, depth_net, new, trainable, _count(part))


def _gate(addition: nn.Module) -> float | None:
    gate = getattr(addition, "gate", None)
    return gate.detach().abs().max().item() if isinstance(gate, Tensor) else None


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
