"""Upgrade of a training checkpoint to the retrofitted networks, so that its training goes on with depth."""

from pathlib import Path

import torch

from ..media.atomic import whole_file
from ..pretrained import checkpoint
from .mechanism import Retrofitted


def upgrade_checkpoint(old: str | Path, new: str | Path, **networks: Retrofitted) -> None:
    """Rewrite a checkpoint of a training script for retrofitted networks; epoch, discriminator and the like stay.

    The state of an optimizer ``optimizer_NAME`` of all parameters of a network goes on, and starts anew for those that
    were added, which follow the network's own.

    Args:
        old: checkpoint from before, a dictionary with the state dict of each network.
        new: file to write.
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
        if f"optimizer_{name}" in content:
            groups = content[f"optimizer_{name}"]["param_groups"]
            before, after = (len(list(module.parameters())) for module in (part.model, part))
            if len(groups) != 1 or len(groups[0]["params"]) not in (before, after):
                found = " and ".join(str(len(group["params"])) for group in groups)
                raise ValueError(f"{old}: optimizer_{name}: expected one group of {before} parameters, found {found}")
            groups[0]["params"] = list(range(after))
    with whole_file(new) as part_file:
        torch.save(content, part_file)
