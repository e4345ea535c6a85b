"""Files that are no weights, told by their first bytes, without PyTorch: what a download left in their place."""

import zipfile
from pathlib import Path

from ..media.signatures import found_in

# In other formats than the one that is expected, or too old to be known.
_MAYBE = ("a PyTorch checkpoint", "a Python pickle", "a tar archive", "of an unknown kind")
_END = 66_000  # bytes, in which the end of a ZIP archive begins
_LIST_LIMIT, _PICKLE_LIMIT = 8 << 20, 8 << 20
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
    """Checkpoints are ZIP archives, whose list of contents comes last; PyTorch never compresses them."""
    with open(path, "rb") as file:
        start = file.read(2)
        size = file.seek(0, 2)
        file.seek(max(size - _END, 0))
        end = file.read()
    if start[:1] == b"\x80" and start[1:] != b"\2":  # PyTorch's protocol
        raise ValueError(f"{path}: is a Python pickle, not a PyTorch checkpoint (.pth, .pth.tar), as expected")
    if start != b"PK":
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: is half a download of {found}, its end is missing: download it again")
    listed = int.from_bytes(end[end.rfind(b"PK\5\6") :][12:16], "little")
    if listed > _LIST_LIMIT:
        raise ValueError(f"{path}: its list of contents has {listed} bytes, expected at most {_LIST_LIMIT}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # damage raises nearly any type
        raise ValueError(f"{path}: is damaged ({error}): download it again") from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ValueError(f"{path}: is TorchScript, which is code, expected a checkpoint with tensors alone")
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise ValueError(f"{path}: is compressed, expected a PyTorch checkpoint, whose contents never are")
    pickles = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if pickles > _PICKLE_LIMIT:
        raise ValueError(f"{path}: its data.pkl has {pickles} bytes, expected at most {_PICKLE_LIMIT}")
