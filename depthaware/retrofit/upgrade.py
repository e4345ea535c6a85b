"""Upgrade of a training checkpoint to the retrofitted networks, so that its training goes on with depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..media.atomic import whole_file
from ..pretrained import checkpoint
from .mechanism import Retrofitted


def upgrade_checkpoint(
    old: str | Path,
    new: str | Path,
    *,
    shared: Mapping[str, Sequence[nn.Module]] | None = None,
    **networks: Retrofitted,
) -> None:
    """Rewrite a checkpoint of a training script for retrofitted networks; epoch, discriminator and the like stay.

    The state of an optimizer goes on, and starts anew for the parameters that were added, which follow the network's
    own. It has one group: all parameters of the network NAME if it is called ``optimizer_NAME``.

    Args:
        old: checkpoint from before, a dictionary with the state dict of each network.
        new: file to write.
        shared: networks of an optimizer for several, in its order, by its name in the checkpoint.
        **networks: retrofitted ones by their names in the checkpoint; they load its weights.

    Raises:
        ValueError: if the file cannot be read safely, or a network or its optimizer does not fit.
    """
    content = checkpoint.load(old)
    for name, part in networks.items():
        if not isinstance(content.get(name), dict):
            raise ValueError(f"{old}: expected weights of {name}, found {', '.join(map(str, content)) or 'nothing'}")
        try:
            part.load_state_dict(content[name])
        except RuntimeError as error:
            raise ValueError(f"{old}: {name} does not fit ({' '.join(str(error).split())[:200]})") from error
        content[name] = part.state_dict()
    for name in set(shared or {}) - set(content):
        raise ValueError(f"{old}: expected an optimizer {name}, found {', '.join(map(str, content))}")
    owners: dict[str, Sequence[nn.Module]] = {f"optimizer_{name}": [part] for name, part in networks.items()}
    for name, modules in (owners | dict(shared or {})).items():
        if name in content:
            try:
                _lengthen(content[name], modules)
            except ValueError as error:
                raise ValueError(f"{old}: {name}: {error}") from error
    with whole_file(new) as part_file:
        torch.save(content, part_file)


def _lengthen(state: dict[str, Any], modules: Sequence[nn.Module]) -> None:
    """Give the parameters in the state of an optimizer the numbers that they have among the added ones."""
    numbers: list[int] = []
    groups, count = state["param_groups"], 0
    for module in modules:
        numbers += range(
            count, count + len(list((module.model if isinstance(module, Retrofitted) else module).parameters()))
        )
        count += len(list(module.parameters()))
    if len(groups) != 1 or len(groups[0]["params"]) not in (len(numbers), count):
        found = " and ".join(str(len(group["params"])) for group in groups)
        raise ValueError(f"expected one group of {len(numbers)} parameters, found {found}")
    if len(groups[0]["params"]) == len(numbers):
        state["state"] = {numbers[i]: value for i, value in state["state"].items()}
        groups[0]["params"] = list(range(count))
