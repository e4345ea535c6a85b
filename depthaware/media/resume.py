"""Check that interrupted work is resumed with the options that it was started with."""

import json
from collections.abc import Mapping
from typing import Any


def check_same_options(where: str, before: Mapping[str, Any], now: Mapping[str, Any], *, flags: bool = False) -> None:
    """Refuse to resume with other options than those stored at the start.

    Args:
        where: the stored result, named at the beginning of the error.
        before: stored options; others than those in `now` are ignored.
        now: options that must be the same, JSON-able; a tuple equals a list with the same entries.
        flags: name the options as on the command line, `--batch-size` instead of `batch_size`.

    Raises:
        ValueError: with the first option that differs, its stored value and its new one.
    """
    for key, value in now.items():
        if key not in before or _plain(before[key]) != _plain(value):
            name = f"--{key.replace('_', '-')} " if flags else f"{key}="
            found = _short(before[key]) if key in before else "nothing"
            raise ValueError(
                f"{where}: was created with {name}{found}, got {name}{_short(value)}; "
                "resume with the same options or choose another output"
            )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 40 else f"{text[:12]}..."
