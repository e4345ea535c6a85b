"""Storage of retrofits: config.json, model.safetensors and a model card, no pickles."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..pretrained import hub, locate
from ..pretrained.fingerprint import fingerprint
from ..pretrained.options import Kind, check_keys, check_options, flag, mapping, short, text, whole
from .mechanism import Retrofitted

_STORED = {"everything": flag, "fingerprints": mapping}
_names = Kind(
    "an object of names", lambda value: mapping.accepts(value) and all(map(text.accepts, (*value, *value.values())))
)
_OPTIONS = {"fdn": flag, "cam": flag, "levels": whole(1, 12), "targets": _names}
_CARD = """---
library_name: depthaware
license: other
tags: [talking-head, image-animation, depth]
---

# Depth for a generator

Load it with `depthaware.retrofit.{family}.load_retrofit`, onto the networks that it was trained with. Its license is
that of those networks; its training data and measured quality were not recorded on saving.
"""


def save_retrofit(
    folder: str | Path, kp_detector: nn.Module, generator: nn.Module, *, everything: bool = False
) -> None:
    """Write the additions and the depth network as config.json and model.safetensors.

    Args:
        folder: created if absent.
        kp_detector: from `retrofit`.
        generator: from `retrofit`.
        everything: include the two networks themselves; required once they are trained.

    Raises:
        ValueError: if a network has changed since the retrofit and would not be stored.
    """
    stored, config, card = _contents(folder, kp_detector, generator, everything)
    hub.save(stored, Path(folder), config, card)


def push_retrofit(
    repo_id: str, kp_detector: nn.Module, generator: nn.Module, *, everything: bool = False, private: bool = False
) -> str:
    """Upload the files of `save_retrofit` to a Hub repository, created if absent; return the commit's URL."""
    stored, config, card = _contents(repo_id, kp_detector, generator, everything)
    return hub.push(stored, repo_id, config, card, private)


def _contents(
    folder: str | Path, kp_detector: nn.Module, generator: nn.Module, everything: bool
) -> tuple[nn.Module, dict[str, Any], str]:
    """Weights, config and card of a retrofit."""
    pair = _pair(kp_detector, generator)
    _check_halves(pair)
    for name, part in pair.items():
        if not everything and fingerprint(part.model) != part.fingerprint:
            raise ValueError(
                f"{folder}: {name} itself has changed since the retrofit (batch-norm statistics count): "
                "expected everything=True, got False"
            )
    fingerprints = {name: fingerprint(part.model) for name, part in pair.items()}
    config = {**pair["generator"].options, "everything": everything, "fingerprints": fingerprints}
    return _stored(pair, everything), config, _CARD.format(family=config["family"])


def _check_halves(pair: dict[str, Retrofitted]) -> None:
    """Refuse halves of two retrofits, of which a file could keep the options and the depth network of one alone."""
    a, b = pair.values()
    if a.options != b.options:
        raise ValueError(f"expected both networks from one retrofit, got one with {a.options} and one with {b.options}")
    nets = [part.depth_net for part in pair.values() if part.depth_net is not None]
    if len(nets) == 2 and nets[0] is not nets[1] and fingerprint(nets[0]) != fingerprint(nets[1]):
        raise ValueError("expected both networks from one retrofit, got two with different depth networks")


def load_additions(
    folder: str | Path,
    retrofit: Callable[..., tuple[Retrofitted, Retrofitted]],
    networks: tuple[nn.Module, nn.Module, nn.Module],
    family: str,
    *,
    revision: str | None = None,
) -> "Pair":
    """Retrofit networks, and load the weights that `save_retrofit` wrote.

    Args:
        folder: with the weights, or a Hub id.
        retrofit: function of the family.
        networks: its positional arguments (key point detector, generator, depth network).
        family: name of the family, which must be the stored one.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        ValueError: if the folder holds no retrofit of the family, or the networks do not fit.
    """
    folder = folder if isinstance(folder, Path) else locate.find(folder, revision=revision)
    config = hub.read_config(folder)
    found = config.pop("family", None)
    if found != family:
        raise ValueError(f"{folder}: expected a retrofit of depthaware.retrofit.{family}, found family {short(found)}")
    try:
        check_keys(config, _STORED)
        check_keys(config["fingerprints"], {"kp_detector": text, "generator": text})
        check_options(config, _OPTIONS)
        if unknown := sorted(config.keys() - _STORED.keys() - inspect.signature(retrofit).parameters.keys()):
            raise ValueError(f"unknown option {unknown[0]}")
    except ValueError as error:
        raise ValueError(f"{Path(folder) / hub.CONFIG}: {error}") from error
    everything, expected = config.pop("everything"), config.pop("fingerprints")
    pair = _pair(*retrofit(*networks, **config))
    for name, part in pair.items():
        if not everything and part.fingerprint != expected[name]:
            raise ValueError(f"{folder}: was trained on another {name}; expected the weights from before the retrofit")
    hub.load_weights(_stored(pair, everything), folder)
    return Pair(pair["kp_detector"], pair["generator"])


class Pair(NamedTuple):
    """A retrofitted key point detector and generator, in the manner of an adapter.

    Attributes:
        kp_detector: called as before.
        generator: called as before.
    """

    kp_detector: Retrofitted
    generator: Retrofitted

    def save_pretrained(self, folder: str | Path, *, everything: bool = False) -> None:
        """Write the additions, and all else with `everything`, see `save_retrofit`."""
        save_retrofit(folder, *self, everything=everything)

    def push_to_hub(self, repo_id: str, *, everything: bool = False, private: bool = False) -> str:
        """Upload the files of `save_pretrained` to a Hub repository, created if absent; return the commit's URL."""
        return push_retrofit(repo_id, *self, everything=everything, private=private)

    def parameter_groups(self, lr: float = 2e-5, new_lr: float = 2e-4) -> list[dict[str, Any]]:
        """Parameter groups of both networks, see `Retrofitted.parameter_groups`."""
        return [group for part in self for group in part.parameter_groups(lr, new_lr)]

    def print_trainable_parameters(self) -> None:
        """Print the numbers of new, trainable and all parameters of each network."""
        for part in self:
            part.print_trainable_parameters()


def _pair(kp_detector: nn.Module, generator: nn.Module) -> dict[str, Retrofitted]:
    pair = {"kp_detector": kp_detector, "generator": generator}
    for name, part in pair.items():
        if not isinstance(part, Retrofitted):
            raise ValueError(f"{name}: expected the result of retrofit, got {type(part).__name__}")
    return pair  # type: ignore[return-value]


def _stored(pair: dict[str, Retrofitted], everything: bool) -> nn.Module:
    """Stored modules of both networks as one module; they share one depth network."""
    stored = nn.ModuleDict()
    for name, part in pair.items():
        if part.depth_net is not None:
            stored["depth_net"] = part.depth_net
        kept = {"depth_encoder": part.depth_encoder, "additions": part.additions}
        stored[name] = nn.ModuleDict(kept | ({"model": part.model} if everything else {}))
    return stored
