"""Atomic writes: files and folders of files that appear complete or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from .formats import OUTPUT_SUFFIXES, choose_codec, is_pattern
from .sequence import find_images


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it at the end of the block.

    It is unique to the call, so that of two writers of one file each leaves a complete one. The folder is made if
    absent. After any exception, Ctrl-C included, nothing is left.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    with _folder(path.parent):
        try:
            yield part
            os.replace(part, path)
        except OSError as error:
            if error.errno is None or (error.filename and Path(error.filename).name != part.name):
                raise
            # The error of a full disk names no file.
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            part.unlink(missing_ok=True)


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


@contextmanager
def whole_folder(folder: str | Path, *, last: str) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `folder` at the end of the block; after any exception none does.

    Args:
        folder: made if absent; files in it that are not written now stay.
        last: name of the file that moves last, which readers open first.
    """
    folder = Path(folder)
    with _folder(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as part:
        yield Path(part)
        for file in sorted(Path(part).iterdir(), key=lambda file: (file.name == last, file.name)):
            os.replace(file, folder / file.name)


def check_output(path: str | Path, suffixes: Sequence[str], others: Sequence[str | Path] = ()) -> None:
    """Raise a one-line ValueError if `path` cannot be written or is one of the other files; called before the work."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"output {str(path)!r}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"output {str(path)!r}: is a folder, expected a file")
    above = next(folder for folder in path.parents if folder.exists())
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
