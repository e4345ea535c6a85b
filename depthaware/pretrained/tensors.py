"""Tensors of a safetensors file: its header is compared with a model that takes no memory yet, then they are read."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..media.memory import needing_memory
from .downloads import check_safetensors
from .options import short

Model = TypeVar("Model", bound=nn.Module)
_HEADER_LIMIT = 4 << 20  # bytes: about 40 000 tensors
_PART = 16 << 20  # bytes of weights that are read at a time
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_COUNTERS = {"I64": torch.int64, "I32": torch.int32}
_DTYPES = _FLOATS | _COUNTERS


class _Blank(TorchFunctionMode):
    """Give weights no memory and no first values; unlike `torch.device("meta")`, import no torch._dynamo."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        if name == "empty" and kwargs.get("device") is None:
            kwargs = kwargs | {"device": "meta"}
        return function(*args, **kwargs)


class Stored(NamedTuple):
    """A tensor in a file, without its values.

    Attributes:
        dtype: as PyTorch's, or the file's name of one that no weights have here.
        shape: of the tensor.
    """

    dtype: torch.dtype | str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Stored]:
    """Read names, dtypes and shapes of the tensors in a safetensors file.

    Raises:
        ValueError: if it is no such file, or its header is damaged, or larger than that of any model.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected config.json and {path.name}, found no {path.name}")
    check_safetensors(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if _HEADER_LIMIT < length <= os.path.getsize(path):
            raise ValueError(f"{path}: its header has {length} bytes, expected at most {_HEADER_LIMIT}")
        head = file.read(min(length, _HEADER_LIMIT))
    try:
        entries: dict[str, Any] = json.loads(head)
        entries.pop("__metadata__", None)
        return {name: _stored(entry) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a whole safetensors file (its header is damaged)") from error


def _stored(entry: dict[str, Any]) -> Stored:
    if not isinstance(entry["dtype"], str):
        raise TypeError
    return Stored(_DTYPES.get(entry["dtype"], entry["dtype"]), tuple(map(int, entry["shape"])))


def read_tensors(path: Path, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; if `names` are given, those alone, under other names (new -> old).

    Raises:
        ValueError: as `read_header`, and if tensors are missing, cut short or overlap.
    """
    names = {name: name for name in read_header(path)} if names is None else names
    try:
        with needing_memory(f"{path}: {os.path.getsize(path)} bytes of weights"), safe_open(path, "pt") as file:
            return {name: file.get_tensor(old) for name, old in names.items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({short(str(error))[1:-1]})") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read what the header of a safetensors file says besides its tensors."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({short(str(error))[1:-1]})") from error


def build(make: Callable[[], Model], stored: Mapping[str, Stored], name: str, origin: str) -> Model:
    """Build a model without memory for its weights, and compare it with the tensors that are to fill it.

    Args:
        make: the constructor with its options.
        stored: tensors by name.
        name: of their file, for errors.
        origin: of the options, for errors.

    Raises:
        ValueError: if the options are impossible, or names, shapes or dtypes do not fit them.
    """
    try:
        with _Blank():
            model = make()
    except Exception as error:  # whatever an impossible value breaks first
        raise ValueError(f"{origin}: {(str(error).splitlines() or [''])[0]}") from error
    check_shapes(model.state_dict(), stored, name)
    return model


def fill_from_file(model: nn.Module, path: Path, names: Mapping[str, str] | None = None) -> None:
    """Copy the tensors of a file into `model`, all or none.

    They are read some at a time, so that loading takes little more memory than the model itself.

    Args:
        model: whose `state_dict` has the shapes in the file's header, see `check_shapes`.
        path: of the file.
        names: those of the tensors in the file, by the model's; the same if None.

    Raises:
        ValueError: as `check_fit`.
    """
    state = model.state_dict()
    parts = list(_parts(state, names or {name: name for name in state}))
    for part in parts:
        check_fit({name: state[name] for name in part}, read_tensors(path, part), str(path))
    for part in parts:
        for name, tensor in read_tensors(path, part).items():
            state[name].copy_(tensor)


def _parts(state: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    part: dict[str, str] = {}
    size = 0
    for name, old in names.items():
        part[name], size = old, size + state[name].nbytes
        if size >= _PART:
            yield part
            part, size = {}, 0
    yield part


def fill(model: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Copy tensors into `model` after `check_fit`; errors begin with `name`."""
    check_fit(model.state_dict(), tensors, name)
    model.load_state_dict(tensors)


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str) -> None:
    """Raise a one-line error that names missing, unknown, misshapen or unusable tensors; `check_shapes` and values."""
    check_plain(found, name)
    check_shapes(expected, {key: Stored(tensor.dtype, tuple(tensor.shape)) for key, tensor in found.items()}, name)
    for key, tensor in found.items():
        for values in tensor.reshape(-1).split(_PART // 16):  # their copies stay small
            value = values.to(expected[key].dtype)
            if not value.isfinite().all():
                raise ValueError(f"{name}: {key} has values that are not finite")
            if key.endswith("running_var") and (value < 0).any():
                raise ValueError(f"{name}: {key} has negative values, which no variance has")


def check_plain(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise a one-line error for the first tensor that is not dense, in memory, and all there."""
    for key, tensor in tensors.items():
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        kind = kind if tensor.device.type == "cpu" else f"on the device {tensor.device}"
        if kind != "strided":
            raise ValueError(f"{name}: {key} is {kind}, expected a dense tensor with its values")
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > sum(stored.values()):
        raise ValueError(f"{name}: has tensors that repeat or share their values, expected each value in the file")


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Stored], name: str) -> None:
    """Raise a one-line error that names tensors that are missing, unknown, or of another shape or kind of numbers."""
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{kind} {_few(keys)}" for kind, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise ValueError(f"{name}: the tensors do not fit the configuration: {'; '.join(parts)}")
    for key, (dtype, shape) in found.items():
        if shape != expected[key].shape:
            raise ValueError(f"{name}: {key} is {short(shape)}, expected {tuple(expected[key].shape)}")
        kinds = _FLOATS if expected[key].is_floating_point() else _COUNTERS
        if dtype not in kinds.values():
            wanted = ", ".join(str(kind).removeprefix("torch.") for kind in kinds.values())
            raise ValueError(f"{name}: {key} is of dtype {str(dtype).removeprefix('torch.')}, expected {wanted}")


def _few(keys: list[str]) -> str:
    listed = ", ".join(key if len(key) <= 100 else f"{key[:100]}..." for key in keys[:5])
    return listed + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
