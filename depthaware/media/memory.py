"""Errors for want of memory: they name what was too big."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing_memory(what: str) -> Iterator[None]:
    """Let an error for want of memory in the block begin with what needs it, unless it was named further inside.

    Args:
        what: name of the file, and its size if it is known.

    Raises:
        MemoryError: in the place of any such error, PyTorch's too.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or isinstance(error, NamedMemoryError):
            raise
        raise NamedMemoryError(f"{what}: {lack_of_memory(error)}") from error


class NamedMemoryError(MemoryError):
    """Of which the message says what was too big."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an error for want of memory: Python's, FFmpeg's, and PyTorch's, on CPU and GPU."""
    if isinstance(error, MemoryError):
        return True
    words = "out of memory|allocate memory|not enough memory"
    return isinstance(error, RuntimeError) and re.search(words, str(error)) is not None


def lack_of_memory(error: BaseException) -> str:
    """Say it in a line, with the number of bytes if it is known."""
    if isinstance(error, NamedMemoryError):
        return str(error)
    asked = re.search(r"(?:tried|unable) to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    return "out of memory" + (f", {asked[1]} more are not to be had" if asked else "")
