"""Weights on disk and on the Hugging Face Hub: config.json, model.safetensors and README.md, no pickles."""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from torch import nn

from ..media.atomic import whole_folder
from ..media.memory import needing_memory
from .config import with_current_names
from .hub_client import hub_error
from .locate import CARD, CLASS, CONFIG, WEIGHTS, find
from .options import short
from .small_files import read_object, read_text
from .tensors import build, check_fit, check_shapes, fill_from_file, read_header
from .tensors import fill as fill

Model = TypeVar("Model", bound=Any)
_BARE_CARD = """---
library_name: depthaware
license: other
tags: [talking-head, image-animation, depth]
---

# A {name} of depthaware

Load it with `{name}.from_pretrained`. Its training data, license and measured quality were not recorded on saving.
"""

_PART_CARD = """---
library_name: depthaware
license: other
license_name: that-of-the-whole-model
tags: [talking-head]
---

# The {name} of {origin}

Load it with `{name}.from_pretrained`. It was taken out of a `DaGAN`, whose license and training data are its own:

````text
{card}
````
"""

_CONVERTED_CARD = """---
library_name: depthaware
license: other
license_name: that-of-the-checkpoint
tags: [talking-head, image-animation{tag}]
---

# {name}, converted for depthaware

Converted from the checkpoint `{name}`{depth}; only the names of its tensors changed. The license of these weights is
that of the checkpoint: the released DaGAN weights and their depth networks are for non-commercial use only. Training
data and measured quality are those that its authors state. Load it with `DaGAN.from_pretrained`.
"""


def converted_card(name: str, config: dict[str, Any]) -> str:
    """Model card of a foreign checkpoint."""
    if config["keypoint_input"] == "rgb" and config["attention"] != "cross":
        return _CONVERTED_CARD.format(name=name, tag="", depth="")
    return _CONVERTED_CARD.format(name=name, tag=", depth", depth=f" and its depth network ({config['depth_encoder']})")


class Part(NamedTuple):
    """Place of a network in a `DaGAN`.

    Attributes:
        kind: name of the class, kept in config.json.
        name: of the attribute, with which the names of its tensors begin.
        words: its name in an error.
        options: names of its options in the config of a `DaGAN`, and its own.
    """

    kind: str
    name: str
    words: str
    options: dict[str, str]


def load(model_class: type[Model], name: str | Path, revision: str | None = None, part: Part | None = None) -> Model:
    """Build a model from a folder of weights, in eval mode, with its card in `model.card`.

    Args:
        model_class: `DaGAN`, or the class of one of its networks.
        name: of the weights.
        revision: of Hub weights.
        part: lets the network be taken out of a `DaGAN`.
    """
    folder = find(name, revision=revision)
    options = with_current_names(read_config(folder))
    wanted, found = part.kind if part else "DaGAN", options.pop(CLASS, "DaGAN")
    named = found if isinstance(found, str) and len(found) < 50 else short(found)
    if found != wanted and (part is None or found != "DaGAN"):
        raise ValueError(f"{folder}: expected weights of {wanted}{' or DaGAN' if part else ''}, found those of {named}")
    path = folder / WEIGHTS
    stored = read_header(path)
    names = {key: key for key in stored}
    if part is not None and found == "DaGAN":
        prefix = f"{part.name}."
        names = {key.removeprefix(prefix): key for key in stored if key.startswith(prefix)}
        options = {own: options[name] for name, own in part.options.items() if name in options}
        if not names:
            raise ValueError(f"{folder}: expected weights of {wanted} or of a DaGAN with one, found no {part.words}")
    if "pretrained" in options:  # would download other weights first
        raise ValueError(f"{folder / CONFIG}: unknown option pretrained")
    described = {name: stored[key] for name, key in names.items()}
    build(lambda: model_class(**options), described, str(path), str(folder / CONFIG))
    with needing_memory(f"{path}: a model of {sum(math.prod(each.shape) for each in described.values())} weights"):
        model = model_class(**options)  # takes memory from here on: as much as there are tensors
    fill_from_file(model, path, names)
    model.card = read_card(folder)
    if part is not None and found == "DaGAN" and model.card:
        model.card = _PART_CARD.format(name=wanted, origin=folder.name, card=model.card.strip())
    return model.eval()


def named_config(model: Any, part: Part) -> dict[str, Any]:
    """Config of one network of a `DaGAN`, with the name of its class, without which it would count as a `DaGAN`'s."""
    return {CLASS: part.kind, **model.config}


def read_config(folder: Path) -> dict[str, Any]:
    """Read the options in config.json."""
    try:
        return read_object(folder / CONFIG, "the model's options")
    except OSError as error:
        raise ValueError(f"{folder}: expected {CONFIG} and {WEIGHTS}, found no {CONFIG} ({error.strerror})") from error


def read_card(folder: Path) -> str | None:
    """Read the model card, if there is one."""
    return read_text(folder / CARD) if (folder / CARD).is_file() else None


def load_weights(model: nn.Module, folder: Path, file: str = WEIGHTS) -> None:
    """Fill `model` from a safetensors file, strictly: every tensor there, of its shape, finite, and none left over."""
    path = folder / file
    check_shapes(model.state_dict(), read_header(path), str(path))
    fill_from_file(model, path)


def save(
    model: nn.Module, folder: Path, config: dict[str, Any], card: str | None, dtype: torch.dtype | None = None
) -> None:
    """Write the three files, each complete or not at all."""
    tensors = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for key, tensor in model.state_dict().items()
    }
    check_fit(tensors, tensors, f"saving {folder}")  # non-finite weights would be refused on loading
    try:
        with whole_folder(folder, last=CONFIG) as part:
            # Not save_file, whose files are readable by their owner only.
            (part / WEIGHTS).write_bytes(serialize(tensors, metadata={"format": "pt"}))
            (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (part / CARD).write_text(card or _BARE_CARD.format(name=config.get(CLASS, "DaGAN")), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder}: the weights cannot be written ({error})") from error


def push(model: nn.Module, repo_id: str, config: dict[str, Any], card: str | None, private: bool) -> str:
    """Upload the three files in one commit; returns its URL."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder), config, card)
        return upload(Path(folder), repo_id, private=private)


def upload(folder: Path, repo_id: str, *, files: Sequence[str] = (CONFIG, WEIGHTS, CARD), private: bool = False) -> str:
    """Upload files of a folder in one commit to a repository, made if absent; returns the commit's URL."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=list(files), commit_message="Upload depthaware weights"
        ).commit_url
    except Exception as error:  # as in `_download`
        raise hub_error(f"Hub repository {repo_id!r}", error) from error
