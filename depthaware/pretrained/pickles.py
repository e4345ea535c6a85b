"""Pickles looked through before they are read.

Deep tuples in them crash Python itself, when one is a key of a dict, and some calls that PyTorch takes for safe make
any number of bytes out of a few.
"""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

_MOST_STEPS, _MOST_DEPTH = 1_000_000, 100
_LEGACY = 5  # pickles at the start of a checkpoint that is no ZIP archive; its numbers follow


def check_pickles(path: str | Path) -> None:
    """Raise an error for a checkpoint whose pickles are damaged, endless or too deep; nothing in them is made.

    Raises:
        Exception: of any type; the file is not to be read.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    _check(io.BytesIO(archive.read(entry)))
        return
    with open(path, "rb") as file:
        for _ in range(_LEGACY):
            _check(file)


class _Item(NamedTuple):
    """An entry on the stack of the pickle machine: how deep its tuples are, and its value, if that matters."""

    depth: int = 0
    value: Any = None


_MARK, _BYTES = _Item(-1), object()


def _check(file: IO[bytes]) -> None:
    """Follow the depths of the tuples on the stack of the pickle machine, and what is called with what."""
    stack: list[_Item] = []
    memo: dict[int, _Item] = {}
    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name, taken = opcode.name, len(opcode.stack_before)
        if step > _MOST_STEPS:
            raise ValueError("too many steps")
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("POP", "DUP"):
            stack = stack[:-1] if name == "POP" else [*stack, stack[-1]]
        elif taken or opcode.stack_after:
            parts: list[_Item] = []
            if pickletools.markobject in opcode.stack_before:
                while (part := stack.pop()) != _MARK:
                    parts.append(part)
                taken = opcode.stack_before.index(pickletools.markobject)
            parts = [*parts, *(stack.pop() for _ in range(taken))][::-1]
            made = _make(name, argument, parts)
            if made.depth > _MOST_DEPTH:
                raise ValueError("too deep")
            stack += [made] * len(opcode.stack_after)


def _make(name: str, argument: Any, parts: list[_Item]) -> _Item:
    deep = "TUPLE" in name or name in ("REDUCE", "NEWOBJ")
    depth = 1 + max((part.depth for part in parts), default=0) if deep else 0
    if "TUPLE" in name:
        return _Item(depth, tuple(part.value for part in parts))
    if name in ("REDUCE", "NEWOBJ"):
        return _Item(depth, _call(*(part.value for part in parts)))
    return _Item(depth, argument)


def _call(function: Any, args: Any) -> Any:
    """Refuse those calls among PyTorch's safe ones that make more than the file holds, or take forever."""
    if not isinstance(function, str) or not isinstance(args, tuple):  # a list would do as well, but is not followed
        raise ValueError("calls something that is not named, or with arguments that are no tuple")
    name = function.rpartition(" ")[2]
    if name == "_rebuild_from_type_v2":  # calls its first argument itself
        return _call(args[0], args[2])
    if name == "encode" and args[1:] in (("latin1",), ("latin-1",)):
        return _BYTES
    makes = name in ("encode", "bytearray") or name.endswith(("Tensor", "UntypedStorage", "TypedStorage"))
    if makes and args and not (name == "bytearray" and args == (_BYTES,)):
        raise ValueError(f"calls {name} with other arguments than PyTorch does")
    return None


def numpy_scalars() -> list[Any]:
    """Types in a pickled NumPy scalar: plain data that training scripts save as losses and epochs."""
    types = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"}
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")  # the latter before numpy 2
    return [np.dtype, *types, *((_scalar, name) for name in names)]


def _scalar(dtype: Any, content: bytes) -> Any:
    """A NumPy scalar of few bytes; NumPy's own function makes any number of them."""
    if not isinstance(dtype, np.dtype) or dtype.itemsize > 32 or dtype.kind not in "iufb":
        raise ValueError(f"expected a number, found {dtype}")
    return np.frombuffer(content, dtype, count=1)[0]
