"""Atomic writes: files and folders of files that appear complete or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .formats import OUTPUT_SUFFIXES, choose_codec, is_pattern
from .leftovers import in_turn, temporary
from .sequence import find_images


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it at the end of the block.

    It is unique to the call, so that of two writers of one file each leaves a complete one. The folder is made if
    absent, a link is kept and the file that it leads to written. After any exception, Ctrl-C included, nothing is left;
    what a killed process left in the folder is removed.
    """
    path = Path(path)
    target = _target(path)
    with _folder(target.parent), temporary(target) as part, _naming(part, path):
        yield part
        _flush(part)
        os.replace(part, target)


@contextmanager
def whole_folder(folder: str | Path, *, last: str) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `folder` at the end of the block; after any exception none does.

    Args:
        folder: made if absent; files in it that are not written now stay.
        last: name of the file that moves last, which readers open first.
    """
    folder = Path(folder)
    with _folder(folder), temporary(folder / "folder", is_folder=True) as part, _naming(part, folder):
        yield part
        files = sorted(part.iterdir(), key=lambda file: (file.name == last, file.name))
        for file in files:
            _flush(file)
        with in_turn(folder):  # or the files of several writers would be mixed
            for file in files:
                _move(file, _target(folder / file.name))


def _move(file: Path, target: Path) -> None:
    if target.parent == file.parent.parent:
        os.replace(file, target)
    else:  # perhaps on another disk
        with whole_file(target) as copy:
            shutil.copyfile(file, copy)


def _target(path: Path) -> Path:
    """Follow a link to the file that is written, so that the link itself stays."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise ValueError(f"output {str(path)!r}: is a link to itself, expected a file")
    if target.exists() and not target.is_file():
        found = "a folder" if target.is_dir() else "a pipe or device"
        raise ValueError(f"output {str(path)!r}: is {found}, expected a file")
    return target


def _flush(path: Path) -> None:
    """Write a file to the disk before it gets its name, under which a power cut could leave it empty otherwise."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _naming(part: Path, path: Path) -> Iterator[None]:
    """Name the result in errors of the system, instead of its temporary path or, as on a full disk, nothing."""
    try:
        yield
    except OSError as error:
        named, part = Path(error.filename or part).absolute(), part.absolute()
        if error.errno is None or not named.is_relative_to(part):
            raise
        raise OSError(error.errno, error.strerror, str(path / named.relative_to(part))) from error


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; at the end of the block those are removed again that are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # not empty
                path.rmdir()


def check_output(path: str | Path, suffixes: Sequence[str], others: Sequence[str | Path] = ()) -> None:
    """Raise a one-line ValueError if `path` cannot be written or is one of the other files; called before the work."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"output {str(path)!r}: expected a name that ends in {' or '.join(suffixes)}")
    above = next(folder for folder in _target(path).parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"output {str(path)!r}: {str(above)!r} is a file, expected a folder")
    for other in map(Path, others):
        if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
            raise ValueError(f"output {str(path)!r}: is the same file as {str(other)!r}, expected another")
    if not os.access(above, os.W_OK):
        raise ValueError(f"output {str(path)!r}: the folder {str(above)!r} cannot be written to")


def check_video_output(
    path: str | Path, others: Sequence[str | Path] = (), codec: str | None = None, quality: int | None = None
) -> None:
    """Raise a one-line ValueError if `write_video` cannot write this file, as `check_output` does."""
    check_output(path, OUTPUT_SUFFIXES, others)
    choose_codec(path, codec, quality)
    if is_pattern(path):
        with suppress(ValueError):  # no images
            found = find_images(Path(path))
            raise FileExistsError(errno.EEXIST, f"is there, expected a folder without frames for {path}", str(found[0]))
