"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end; after any exception, Ctrl-C included, nothing stays."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.filename and Path(error.filename).name != part.name:
            raise
        # A full disk does not say whose file it had no room for.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def check_output(path: str | Path, suffixes: Sequence[str], others: Sequence[str | Path] = ()) -> None:
    """Raise one line if `path` cannot be written, or is one of the other files: to be called before the work begins."""
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
