"""Checks of the dictionaries of key points that a generator is called with."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def check_entries(expected: tuple[str, ...], kp: Any) -> None:
    """Refuse key points without positions, the first of the expected entries."""
    if not isinstance(kp, Mapping) or expected[0] not in kp:
        found = ", ".join(kp) or "nothing" if isinstance(kp, Mapping) else type(kp).__name__
        raise ValueError(f"key points: expected {' and '.join(map(repr, expected))}, found {found}")


def check_call(
    expected: tuple[str, ...],
    arguments: tuple[str, ...],
    names: list[str],
    generator: nn.Module,
    args: Any,
    kwargs: Any,
) -> None:
    """Refuse key points with Jacobians on one side only, which some networks silently ignore.

    Args:
        expected: entries of the dictionaries.
        arguments: of the generator that are such dictionaries.
        names: of all arguments of the generator.
        generator: called network.
        args: of the call.
        kwargs: of the call.
    """
    given = dict(zip(names, args, strict=False)) | kwargs
    both = [given[name] for name in arguments if name in given]
    for kp in both:
        check_entries(expected, kp)
    if len(both) == 2 and (both[0].get(expected[-1]) is None) != (both[1].get(expected[-1]) is None):
        one, other = (", ".join(kp) for kp in both)
        raise ValueError(f"key points: {arguments[0]} has {one}, {arguments[1]} {other}")
