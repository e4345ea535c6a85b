"""Retrofits on disk: config.json, model.safetensors and a card, nothing pickled."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ..pretrained import hub
from .mechanism import Retrofitted, fingerprint

_CARD = """---
library_name: depthaware
license: other
tags: [talking-head, image-animation, depth]
---

# Depth for a generator

Load it with `integrations.{family}.load_retrofit`, onto the networks that it was trained with. Its license is that of
those networks, its training data and measured quality were not recorded on saving.
"""


def save_retrofit(
    folder: str | Path, kp_detector: nn.Module, generator: nn.Module, *, everything: bool = False
) -> None:
    """Write what the retrofit added, with the depth network, as config.json and model.safetensors.

    Args:
        folder: made if absent.
        kp_detector: from `retrofit`.
        generator: from `retrofit`.
        everything: also the two networks themselves; needed once they are trained.

    Raises:
        ValueError: if a network has changed since the retrofit and would not be stored.
    """
    pair = _pair(kp_detector, generator)
    for name, part in pair.items():
        if not everything and fingerprint(part.model) != part.fingerprint:
            raise ValueError(
                f"{folder}: {name} itself has changed since the retrofit, also its statistics count: "
                "expected everything=True, got False"
            )
    fingerprints = {name: fingerprint(part.model) for name, part in pair.items()}
    config = {**pair["generator"].options, "everything": everything, "fingerprints": fingerprints}
    card = _CARD.format(family=config["family"])
    hub.save(_stored(pair, everything), Path(folder), config, card)


def load(
    folder: str | Path,
    retrofit: Callable[..., tuple[Retrofitted, Retrofitted]],
    networks: tuple[nn.Module, nn.Module, nn.Module],
    family: str,
) -> tuple[Retrofitted, Retrofitted]:
    """Retrofit (detector, generator, depth network), and fill in what `save_retrofit` wrote."""
    config = hub.read_config(Path(folder))
    found = config.pop("family", None)
    if found != family:
        raise ValueError(f"{folder}: expected a retrofit of integrations.{family}, found family {found!r}")
    everything, expected = config.pop("everything"), config.pop("fingerprints")
    pair = _pair(*retrofit(*networks, **config))
    for name, part in pair.items():
        if not everything and part.fingerprint != expected[name]:
            raise ValueError(f"{folder}: was trained on another {name}; expected the weights from before the retrofit")
    hub.load_weights(_stored(pair, everything), Path(folder))
    return pair["kp_detector"], pair["generator"]


def _pair(kp_detector: nn.Module, generator: nn.Module) -> dict[str, Retrofitted]:
    pair = {"kp_detector": kp_detector, "generator": generator}
    for name, part in pair.items():
        if not isinstance(part, Retrofitted):
            raise ValueError(f"{name}: expected what retrofit returns, got {type(part).__name__}")
    return pair  # type: ignore[return-value]


def _stored(pair: dict[str, Retrofitted], everything: bool) -> nn.Module:
    """What is on disk, under one roof; both share one depth network."""
    roof = nn.ModuleDict()
    for name, part in pair.items():
        if part.depth_net is not None:
            roof["depth_net"] = part.depth_net
        kept = {"depth_encoder": part.depth_encoder, "additions": part.additions}
        roof[name] = nn.ModuleDict(kept | ({"model": part.model} if everything else {}))
    return roof
