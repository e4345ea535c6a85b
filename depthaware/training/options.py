"""Command lines of recipes: the options are the fields of a dataclass, read by tyro.

A mistake in the options, or in the files that they name, ends the program with one line and exit code 2.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .._optional import require

Options = TypeVar("Options")

_KINDS = {str: "a string", int: "a whole number", float: "a number"}


def option(default: Any, help: str) -> Any:
    """Field of an options dataclass.

    Args:
        default: used where the flag is not given. None means "not given"; the help text says what happens then.
        help: one or two clauses, with the unit or the range where there is one. Choices come from a `Literal` type.
    """
    return dataclasses.field(default=default, metadata={"help": help})


def required(help: str, hint: str) -> Any:
    """Field of an options dataclass without a default.

    Args:
        help: as in `option`.
        hint: ends the error message where the flag is missing: how to get such a value.
    """
    return dataclasses.field(metadata={"help": help, "hint": hint})


def run_recipe(main: Callable[[Options], object], options: type[Options], description: str | None) -> None:
    """Parse the command line and call `main`; exit code 2 and one line for wrong input, 130 after Ctrl-C.

    Args:
        main: the program.
        options: dataclass whose fields are made by `option` and `required`.
        description: shown by ``--help``; usually the docstring of the recipe.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {' '.join(str(message).split())}\n"
    try:
        main(parse(options, description))
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except OSError as error:
        _end(f"error: {error.filename or 'input or output'}: {error.strerror or error}", 2)
    except (ValueError, ImportError) as error:
        _end(f"error: {error}", 2)
    except RuntimeError:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            time.sleep(10)  # the other process that this one lost says why it ended, and torchrun then stops this one
        raise


def parse(options: type[Options], description: str | None = None, args: Sequence[str] | None = None) -> Options:
    """Options from command-line flags, the words of `args` or of ``sys.argv``.

    Raises:
        ValueError: one line that names the flag, the value found, and the values expected.
    """
    tyro = require("tyro", "train")
    words = list(sys.argv[1:] if args is None else args)
    box = io.StringIO()
    parsed: Any
    try:
        with contextlib.redirect_stderr(box):
            parsed, unknown = tyro.cli(_parser(options), args=words, description=description, return_unknown_args=True)
    except SystemExit as end:
        if not end.code:  # after --help
            raise
        raise ValueError(_reason(options, box.getvalue(), words)) from None
    if unknown:
        raise ValueError(_unknown(options, unknown[0], words))
    for flag, field in _flags(options).items():
        if getattr(parsed, field.name) in (None, "") and "hint" in field.metadata:
            raise ValueError(f"{flag}: expected {field.metadata['help']}, got none; {field.metadata['hint']}")
    return options(**vars(parsed))


def check_choices(options: Any) -> None:
    """Check options that were not read from a command line against their `Literal` types.

    Raises:
        ValueError: that names the flag, the choices, and the value found.
    """
    kinds = get_type_hints(type(options))
    for flag, field in _flags(type(options)).items():
        value, choices = getattr(options, field.name), _choices(_base(kinds[field.name]))
        if choices and value not in (*choices, field.default):
            raise ValueError(f"{flag}: expected {_listed(choices)}, got {value!r}")


def _parser(options: type) -> type:
    """The same fields, annotated as tyro expects them."""
    tyro = require("tyro", "train")
    fields = []
    for field in dataclasses.fields(options):
        kind, default = get_type_hints(options)[field.name], field.default
        arguments: dict[str, Any] = {"help": field.metadata.get("help", "")}
        if default is dataclasses.MISSING:
            kind, default, arguments["help_behavior_hint"] = kind | None, None, "(required)"
        elif default is None:
            arguments["help_behavior_hint"] = ""
        if type(None) in get_args(kind):
            base = _base(kind)
            arguments["metavar"] = f"{{{','.join(_choices(base))}}}" if _choices(base) else base.__name__.upper()
        annotated = Annotated[kind, tyro.conf.arg(**arguments)]  # type: ignore[valid-type]
        fields.append((field.name, annotated, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(options.__name__, fields)


def _flags(options: type) -> dict[str, dataclasses.Field]:
    return {"--" + field.name.replace("_", "-"): field for field in dataclasses.fields(options)}


def _base(kind: Any) -> Any:
    """The type without `None`."""
    return next(part for part in get_args(kind) if part is not type(None)) if type(None) in get_args(kind) else kind


def _choices(kind: Any) -> list[str]:
    return [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []


def _listed(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), *choices[-1:])))


def _reason(options: type, box: str, words: Sequence[str]) -> str:
    """One line for the error that tyro printed in a box."""
    text = " ".join(re.sub(r"[─│╭╮╰╯]", " ", box).split())
    flag = next((found for found in re.findall(r"--[\w-]+", text) if found in _flags(options)), None)
    if flag is None:
        return text
    kind = _base(get_type_hints(options)[_flags(options)[flag].name])
    expected = _listed(_choices(kind)) or _KINDS.get(kind, "no value")
    value = _value(flag, words)
    dashes = f"; write {flag}=VALUE for a value that begins with -" if value and value.startswith("-") else ""
    return f"{flag}: expected {expected}, got {'none' if value is None else repr(value)}{dashes}"


def _unknown(options: type, word: str, words: Sequence[str]) -> str:
    """One line for a word that is no option, or the value of a flag that takes none."""
    kinds = get_type_hints(options)
    for flag, field in _flags(options).items():
        for spelling in (flag, flag.replace("--", "--no-", 1)):
            if kinds[field.name] is bool and f"{spelling}={word}" in words:
                return f"{spelling}: expected no value, got {word!r}"
    close = difflib.get_close_matches(word, _flags(options), 1)
    return f"unknown option {word}, " + (f"expected {close[0]}?" if close else "see --help")


def _value(flag: str, words: Sequence[str]) -> str | None:
    """The last value of a flag on the command line."""
    for i in reversed(range(len(words))):
        name, equals, value = words[i].partition("=")
        if name.replace("_", "-") == flag:
            return value if equals else words[i + 1] if i + 1 < len(words) else None
    return None


def _end(message: str, code: int) -> None:
    if int(os.environ.get("RANK", "0")):
        time.sleep(5)  # torchrun stops this process where the first one fails likewise, and has said so
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)
