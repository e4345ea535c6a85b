"""Lines that a command prints: they cannot fail a run, and no file can fill them with commands to the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

_MOST = 800  # characters of an error or a warning


class Patient:
    """A stream that never raises: where the disk is full or nobody reads any more, the rest is dropped.

    Attributes:
        stream: the stream itself; None if it is closed or broken.
        error: by which it broke.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write, with the codes of letters that the terminal lacks."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self._try("write", text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush."""
        self._try("flush")

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return bool(self._try("isatty"))

    def _try(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self.stream, name)(*args) if self.stream is not None else None
        except (OSError, ValueError) as error:  # the latter of a closed one
            self.stream, self.error = None, error  # or it is flushed again when the process ends
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def patient_streams() -> Iterator[tuple[Patient, Patient]]:
    """Replace stdout and stderr by `Patient` ones; afterwards those that broke are None, as Python has closed ones."""
    streams = Patient(sys.stdout), Patient(sys.stderr)
    sys.stdout, sys.stderr = cast(Any, streams)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = (stream.stream for stream in streams)


def one_line(text: str) -> str:
    """Join lines, escape control characters, and leave out the middle of what is too long, such as a name in a file."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"


def printable(text: str) -> str:
    """Escape control characters, but for ends of lines and tabs."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)
