"""The Hugging Face Hub's client: its files compared with their digests, its errors as one line, its noise left out."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STATUS = {
    401: "access is denied: log in with the Hub's own tool, `hf auth login`",
    403: "access is denied: accept the terms on the repository's page, or use a token with the right to read it",
    404: "there is no such file or repository",
    429: "the Hub had too many requests from here: try again in some minutes, or log in",
}


def is_whole(path: Path) -> bool:
    """Compare a file in the client's cache with the digest that it is stored under: of the Hub, by SHA-256 or of git.

    A file that is absent, or stored under another kind of name, as by some mirrors and on Windows, counts as whole.
    """
    name = path.resolve().name
    if not path.is_file() or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name):
        return True
    if len(name) == 64:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        return digest.hexdigest() == name
    content = path.read_bytes()
    return name in (hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha1(content).hexdigest())


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the client from printing a line for each time that it tries again; it fails with an error anyway."""
    logger = logging.getLogger("huggingface_hub")
    logger.addFilter(_is_error)
    handlers = [*logger.handlers]
    for handler in handlers:  # records of loggers below pass these alone
        handler.addFilter(_is_error)
    try:
        yield
    finally:
        logger.removeFilter(_is_error)
        for handler in handlers:
            handler.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def hub_error(where: str, error: Exception) -> ValueError | OSError:
    """One line: ValueError for an id that is wrong or unknown to the Hub, OSError for failures of network and Hub."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    causes = [error, *_causes(error)]
    status = next((found for cause in causes if (found := _status(cause))), None)
    if isinstance(error, RevisionNotFoundError):
        return ValueError(f"{where}: no such revision")
    if isinstance(error, RepositoryNotFoundError) and status != 403:
        return ValueError(f"{where}: no such repository, or no access to it")
    if status is not None and (status in _STATUS or status >= 500):
        words = _STATUS.get(status, "the Hub itself has a problem: try again later")
        return (ValueError if status == 404 else OSError)(f"{where}: {words} (status {status})")
    if any("timeout" in type(cause).__name__.lower() for cause in causes):
        return OSError(
            f"{where}: the Hub did not answer in time: try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds"
        )
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, LocalEntryNotFoundError):
        return OSError(f"{where}: not downloaded before, and the Hub is out of reach ({line})")
    wrong = isinstance(error, ValueError) and not isinstance(error, OSError)  # the client has errors that are both
    return (ValueError if wrong else OSError)(f"{where}: {line}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(10):
        following = error.__cause__ or error.__context__
        if following is None:
            return
        yield (error := following)


def _status(error: Any) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
