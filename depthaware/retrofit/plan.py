"""Description of where depth enters a network."""

from typing import Literal, NamedTuple

from torch import nn


class Site(NamedTuple):
    """Place where depth enters a network.

    Attributes:
        path: name of a submodule, "" for the network itself.
        addition: (depth feature, x) -> x; the identity in x before training.
        when: x is the input ("before") or the output ("after") of the submodule.
        channels: number of the last channels of x that the addition applies to; None for all.
        entry: of the output if that is a dictionary.
    """

    path: str
    addition: nn.Module
    when: Literal["before", "after"]
    channels: int | None = None
    entry: str | None = None


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
