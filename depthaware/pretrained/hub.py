"""Weights on disk and on the Hugging Face Hub: config.json, model.safetensors and README.md, no pickles."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ..media.atomic import whole_folder
from .config import with_current_names

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
Model = TypeVar("Model", bound=Any)
_BUNDLED = Path(__file__).parents[1] / "assets" / "weights"
_BARE_CARD = """---
library_name: depthaware
license: other
tags: [talking-head, image-animation, depth]
---

# A depthaware model

Load it with `DaGAN.from_pretrained`. Its training data, license and measured quality were not recorded on saving.
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


def bundled() -> list[str]:
    """Names of the weights bundled with the package."""
    return sorted(path.parent.name for path in _BUNDLED.glob(f"*/{CONFIG}"))


def find(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder with the weights called `name`: bundled, local, or downloaded from the Hub.

    A folder with the name of bundled weights is taken if it is written as a path ("./dagan-tiny"); else a warning says
    that it is not.
    """
    is_bundled, is_folder = str(name) in bundled(), Path(name).is_dir()
    if (is_bundled or is_folder) and revision is not None:
        raise ValueError(f"weights {str(name)!r}: revision {revision!r} is for Hub weights, these are on this machine")
    if is_bundled and not (is_folder and isinstance(name, Path)):
        if is_folder:
            warnings.warn(f"weights {name!r}: are the bundled ones, for the folder write './{name}'", stacklevel=4)
        return _BUNDLED / name
    if is_folder:
        return Path(name)
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"weights {str(name)!r}: expected a folder, a Hub id 'user/model' or a bundled name "
            f"({', '.join(bundled())})"
        )
    return _download(name, revision)


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    where = f"Hub weights {repo_id!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except Exception as error:  # the client's transport raises kinds of its own, which change with its version
        raise _hub_error(where, error) from error


def _hub_error(where: str, error: Exception) -> ValueError | OSError:
    """One line: ValueError for an id that is wrong or unknown to the Hub, OSError for failures of network and Hub."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError):
        return ValueError(f"{where}: no such repository, or no access to it")
    if isinstance(error, RevisionNotFoundError):
        return ValueError(f"{where}: no such revision")
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, LocalEntryNotFoundError):
        return OSError(f"{where}: not downloaded before, and the Hub is out of reach ({line})")
    return (ValueError if isinstance(error, ValueError) else OSError)(f"{where}: {line}")


def load(model_class: type[Model], name: str | Path, revision: str | None = None) -> Model:
    """Build a model from a folder of weights, in eval mode, with its card in `model.card`."""
    folder = find(name, revision=revision)
    options = with_current_names(read_config(folder))
    try:
        model = model_class(**options)
    except (TypeError, ValueError, RuntimeError) as error:  # the last is of impossible sizes
        raise ValueError(f"{folder / CONFIG}: {(str(error).splitlines() or [''])[0]}") from error
    load_weights(model, folder)
    model.card = read_card(folder)
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the options in config.json."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{folder}: expected {CONFIG} and {WEIGHTS}, found no {CONFIG} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected an object with the model's options, got {type(config).__name__}")
    return config


def read_card(folder: Path) -> str | None:
    """Read the model card, if there is one."""
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fill `model` from model.safetensors, strictly: every tensor there, of its shape, finite, and none left over."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder}: expected {CONFIG} and {WEIGHTS}, found no {WEIGHTS}")
    load_tensors(model, path)


def load_tensors(model: nn.Module, path: Path) -> None:
    """Fill `model` from a safetensors file, strictly."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    fill(model, tensors, str(path))


def fill(model: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Copy tensors into `model` after `check_fit`; errors begin with `name`."""
    check_fit(model.state_dict(), tensors, name)
    model.load_state_dict(tensors)


def check_fit(expected: dict[str, Tensor], found: dict[str, Tensor], name: str) -> None:
    """Raise a one-line error that names missing, unknown, misshapen or non-finite tensors."""
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{kind} {_few(keys)}" for kind, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise ValueError(f"{name}: the tensors do not fit the configuration: {'; '.join(parts)}")
    for key, tensor in found.items():
        if tensor.shape != expected[key].shape:
            raise ValueError(f"{name}: {key} is {tuple(tensor.shape)}, expected {tuple(expected[key].shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: {key} has values that are not finite")


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


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
            (part / CARD).write_text(card or _BARE_CARD, encoding="utf-8")
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
        raise _hub_error(f"Hub repository {repo_id!r}", error) from error
