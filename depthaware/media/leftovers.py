"""Temporary files beside results, and those that a killed process left, which nobody holds any more."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

if sys.platform != "win32":
    import fcntl

_OURS = re.compile(r"\..*\.[0-9a-f]{8}\.part")


@contextmanager
def temporary(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Make an empty file or folder beside `path`, in a folder that exists, and remove it at the end of the block.

    Its name is hidden and unique. What killed processes left in that folder is removed first.
    """
    _sweep(path.parent)
    part, handle = _make(path, is_folder)
    try:
        yield part
    finally:
        try:
            _remove(part)
        finally:
            if handle is not None:
                os.close(handle)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else is in such a block for a folder; where folders cannot be locked, go on at once.

    A temporary folder has one writer, who holds it and would wait for itself.
    """
    handle = None
    with suppress(OSError):
        if sys.platform != "win32" and not _OURS.fullmatch(folder.name):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; where files cannot be locked, as on Windows, nothing."""
    with suppress(OSError):
        for name in filter(_OURS.fullmatch, os.listdir(folder)):
            with suppress(OSError):  # it is held, or was removed by another process
                if (handle := _hold(folder / name)) is not None:
                    try:
                        _remove(folder / name)
                    finally:
                        os.close(handle)


def _make(path: Path, is_folder: bool) -> tuple[Path, int | None]:
    """Make a temporary file or folder, and hold it."""
    while True:
        part = path.with_name(f".{path.name[:50]}.{token_hex(4)}.part")  # 255 bytes at most, also of a long name
        try:
            part.mkdir() if is_folder else part.touch(exist_ok=False)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path.parent if is_folder else path)) from error
        with suppress(BlockingIOError, FileNotFoundError):  # another process took it for a leftover before it was held
            handle = _hold(part)
            if handle is None or part.exists():
                return part, handle
            os.close(handle)


def _hold(part: Path) -> int | None:
    """Lock a file or folder until its handle is closed or the process ends; None where that is impossible.

    Raises:
        BlockingIOError: if another process holds it.
    """
    if sys.platform == "win32":
        return None
    handle = os.open(part, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of such a name would wait
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None  # some network disks know no locks
    return handle


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
