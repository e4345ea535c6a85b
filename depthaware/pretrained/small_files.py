"""Small text files: JSON and model cards, read without trust in their size or kind."""

import json
import os
from pathlib import Path
from typing import Any

from ..media.signatures import check_regular

JSON_LIMIT, CARD_LIMIT = 1 << 20, 4 << 20  # bytes


def read_text(path: Path, limit: int = CARD_LIMIT) -> str:
    """Read a text file of at most `limit` bytes; undecodable bytes are replaced.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is larger, or a pipe or device, which might never end.
    """
    check_regular(path)
    with open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path}: is too large ({os.path.getsize(path)} bytes), expected at most {limit}")
    return content.decode("utf-8", errors="replace")


def read_object(path: Path, content: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: of the file.
        content: of the object in words, for errors.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds something else.
    """
    words = read_text(path, JSON_LIMIT)
    try:
        found = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object with {content}, got {type(found).__name__}")
    return found
