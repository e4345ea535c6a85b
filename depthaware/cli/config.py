"""Options from a file: `--config run.toml`."""

import argparse
import copy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    what = "take options from a file of lines such as `batch-size = 4`; those on the command line win"
    parser.add_argument("--config", metavar="TOML", help=what)


def apply_config(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Make the values of the file that is named among the words of a command line defaults of its parser.

    Raises:
        ValueError: if the file is no TOML, or a key or value is none of an option.
        OSError: if it cannot be read.
    """
    find = _Refusing(add_help=False)
    find.add_argument("--config")
    if (path := find.parse_known_args(words)[0].config) is None:
        return
    try:
        values = tomllib.loads(Path(path).read_text("utf-8-sig"))
        options = {name[2:]: action for action in parser._actions for name in action.option_strings if name[:2] == "--"}
        for name in ("config", "help"):
            options.pop(name)
        given = {}
        for key, value in values.items():
            action = _find(options, key)
            if action.dest in given:
                raise ValueError(f"{key!r}: is given twice, expected each option once")
            given[action.dest] = _parsed(action, key, value)
            action.required = False
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    parser.set_defaults(**given, configured=given)


def _find(options: dict[str, argparse.Action], key: str) -> argparse.Action:
    name = key.replace("_", "-")
    if name not in options:
        near = get_close_matches(name, options, 1)
        raise ValueError(f"{key!r} is no option of the command" + (f", expected {near[0]!r}?" if near else ""))
    return options[name]


def _parsed(action: argparse.Action, key: str, value: Any) -> Any:
    """Value of an option, as if it stood on the command line."""
    name, flag = f"--{key.replace('_', '-')}", action.nargs == 0
    if flag != isinstance(value, bool) or not isinstance(value, bool | str | int | float | list):
        raise ValueError(
            f"{name[2:]}: expected {'true or false' if flag else 'text, a number or a list'}, got {value!r}"
        )
    if flag:
        word = name if value else f"--no-{name[2:]}"
        words = [word] if word in action.option_strings else []
    else:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            raise ValueError(f"{name[2:]}: expected texts or numbers, got {value!r}")
        words = [f"{name}={items[0]}"] if len(items) == 1 else [name, *map(str, items)]
    alone = copy.copy(action)
    alone.required = False
    parser = _Refusing(add_help=False)
    parser._add_action(alone)
    return getattr(parser.parse_args(words), action.dest)


class _Refusing(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)
