"""Atomic writes: files and folders of files that appear complete or not at all."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it at the end of the block.

    It is unique to the call, so that of two writers of one file each leaves a complete one. After any exception, Ctrl-C
    included, nothing is left.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
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
def whole_folder(folder: str | Path, *, last: str) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `folder` at the end of the block; after any exception none does.

    Args:
        folder: made if absent; files in it that are not written now stay.
        last: name of the file that moves last, which readers open first.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as part:
            yield Path(part)
            for file in sorted(Path(part).iterdir(), key=lambda file: (file.name == last, file.name)):
                os.replace(file, folder / file.name)
    finally:
        if made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def check_output(path: str | Path, suffixes: Sequence[str], others: Sequence[str | Path] = ()) -> None:
    """Raise a one-line ValueError if `path` cannot be written or is one of the other files; called before the work."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"output {str(path)!r}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"output {str(path)!r}: is a folder, expected a file")
    if not path.parent.is_dir():
        raise ValueError(f"output {str(path)!r}: there is no folder {str(path.parent)!r}")
    for other in map(Path, others):
        if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
            raise ValueError(f"output {str(path)!r}: is the same file as {str(other)!r}, expected another")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"output {str(path)!r}: the folder {str(path.parent)!r} cannot be written to")
