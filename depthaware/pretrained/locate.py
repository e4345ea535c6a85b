"""Weights by name: bundled, in a folder, or on the Hugging Face Hub. Needs no PyTorch, so that names fail early."""

import os
import shlex
import warnings
from pathlib import Path

from .downloads import no_folder
from .hub_client import hub_error, is_whole, quiet_client
from .small_files import read_object

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CLASS = "class"  # key of config.json for the name of the class; absent for a DaGAN
_SUFFIXES = (".pth", ".tar", ".pt", ".ckpt", ".bin", ".onnx", ".zip", ".safetensors")  # no Hub id ends so
_BUNDLED = Path(__file__).parents[1] / "assets" / "weights"


def bundled() -> list[str]:
    """Names of the weights bundled with the package."""
    return sorted(path.parent.name for path in _BUNDLED.glob(f"*/{CONFIG}"))


def list_models() -> list[str]:
    """List the weights that `from_pretrained` loads without a download; needs no PyTorch.

    Returns:
        Names of the bundled weights, then the Hub ids of depthaware's weights in the local cache of the Hub's client,
        models as well as single networks of them.
    """
    return [*bundled(), *(repo_id for repo_id, folder in _cached() if is_ours(folder))]


def is_ours(folder: Path) -> bool:
    """Tell whether a folder holds weights of depthaware, by the keys of its config.json."""
    try:
        config = read_object(folder / CONFIG, "options")
    except (OSError, ValueError):
        return False
    known = CLASS in config or {"num_keypoints", "keypoint_input"} <= config.keys()
    return known and (folder / WEIGHTS).is_file()


def _cached() -> list[tuple[str, Path]]:
    """Hub ids of models in the cache, sorted, with the folder of their newest revision."""
    from huggingface_hub.constants import HF_HUB_CACHE

    newest = []
    for repository in sorted(Path(HF_HUB_CACHE).glob("models--*--*")):
        revisions = sorted((repository / "snapshots").glob("*"), key=os.path.getmtime)
        newest += [(repository.name.removeprefix("models--").replace("--", "/", 1), path) for path in revisions[-1:]]
    return newest


def find(name: str | Path, *, revision: str | None = None) -> Path:
    """Find the folder of the weights `name`: bundled, local, or downloaded from the Hub.

    A folder with the name of bundled weights is taken if it is written as a path ("./dagan-tiny"); otherwise a
    warning names the clash.

    Raises:
        ValueError: if the name is none of these, or unknown to the Hub.
        OSError: if the Hub cannot be reached.
    """
    folder = find_local(name, revision=revision)
    if folder is None:
        return _download(str(name), revision)
    if folder.parent == _BUNDLED and Path(name).is_dir() and Path(name) != folder:
        warnings.warn(f"weights {name!r}: are the bundled ones, for the folder write './{name}'", stacklevel=4)
    return folder


def find_local(name: str | Path, *, revision: str | None = None) -> Path | None:
    """Find the folder of bundled or local weights; None for a Hub id."""
    is_bundled, is_folder = str(name) in bundled(), Path(name).is_dir()
    if (is_bundled or is_folder) and revision is not None:
        raise ValueError(f"weights {str(name)!r}: revision {revision!r} is for Hub weights, these are on this machine")
    if is_bundled and not (is_folder and isinstance(name, Path)):
        return _BUNDLED / name
    if is_folder:
        return Path(name)
    if Path(name).is_file():
        raise ValueError(f"weights {str(name)!r}: {no_folder(Path(name))}")
    if str(name).endswith(_SUFFIXES):
        raise ValueError(f"weights {str(name)!r}: there is no such file; expected a folder, a Hub id or a bundled name")
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"weights {str(name)!r}: expected a folder, a Hub id 'user/model' or a bundled name "
            f"({', '.join(bundled())})"
        )
    return None


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    where = f"Hub weights {repo_id!r}" + (f" at revision {revision!r}" if revision else "")
    for again in (False, True):
        try:
            with quiet_client():
                folder = Path(
                    snapshot_download(
                        repo_id, revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD], force_download=again
                    )
                )
        except Exception as error:  # the client's transport raises kinds of its own, which change with its version
            if again:
                break
            raise hub_error(where, error) from error
        damaged = [file for file in (CONFIG, WEIGHTS, CARD) if not is_whole(folder / file)]
        if not damaged:
            return folder
    raise ValueError(
        f"{where}: {damaged[0]} is damaged in the cache, and a second download failed or was damaged too; "
        f"clear it with: rm -r {shlex.quote(str(folder.parents[1]))}"
    )
