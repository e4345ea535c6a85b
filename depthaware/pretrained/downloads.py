"""Files that are no weights, told by their first bytes, without PyTorch: what a download left in their place."""

import zipfile
from pathlib import Path

from ..media.signatures import found_in

# In other formats than the one that is expected, or too old to be known.
_MAYBE = ("a PyTorch checkpoint", "a Python pickle", "a tar archive", "of an unknown kind")
_CURES = {
    "an empty file": "download it again",
    "a Git LFS pointer": "fetch the file itself with `git lfs pull`, or download it from the repository's page",
    "a web page": "download the file itself, not the page that links to it",
    "a safetensors file": "expected a PyTorch checkpoint (.pth, .pth.tar)",
}


def check_checkpoint(path: str | Path) -> None:
    """Raise a ValueError if a file is surely no PyTorch checkpoint, or half of one: what it is, and what to do."""
    try:
        found = found_in(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if found not in _MAYBE:
        raise ValueError(f"{path}: is {found}, {_CURES.get(found, 'expected a PyTorch checkpoint (.pth, .pth.tar)')}")
    _check_end(path, found)


def check_safetensors(path: str | Path) -> None:
    """The same for a safetensors file."""
    found = found_in(path)
    if found not in ("a safetensors file", "of an unknown kind"):
        raise ValueError(f"{path}: is {found}, {_CURES.get(found, 'expected a safetensors file')}")


def no_folder(path: Path) -> str:
    """Describe a file given as the name of weights, which lie in a folder, and say what to do."""
    found = found_in(path)
    if found in _MAYBE:
        return f"is a checkpoint, convert it first: depthaware convert {path} --output FOLDER"
    if found == "a safetensors file":
        return "is a single file, expected the folder in which it lies beside config.json"
    return f"is {found}, {_CURES.get(found, 'expected a folder with config.json and model.safetensors')}"


def _check_end(path: str | Path, found: str) -> None:
    """Checkpoints are ZIP archives, whose list of contents comes last."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped and not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: is half a download of {found}, its end is missing: download it again")
