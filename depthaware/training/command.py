"""A recipe's options: a frozen dataclass is its command line, and a mistake in them ends in one line."""

import argparse
import dataclasses
import inspect
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Options = TypeVar("Options")


def parse(options: type[Options], description: str | None) -> Options:
    """Command-line flags from the fields of a dataclass; their defaults and types are the dataclass's."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    meanings = _comments(options)
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        flag = "--" + field.name.replace("_", "-")
        how: dict[str, Any] = {"type": type(field.default)}
        if isinstance(field.default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(flag, default=field.default, help=meanings.get(field.name, " "), **how)
    return options(**vars(parser.parse_args()))


def _comments(options: type) -> dict[str, str]:
    """What stands behind each field in the source."""
    source = "".join(inspect.getsource(part) for part in reversed(options.__mro__[:-1]))
    return {name: text.replace("%", "%%") for name, text in re.findall(r"^    (\w+): .*?  # (.*)$", source, re.M)}


def run(main: Callable[[Options], object], options: type[Options], description: str | None) -> None:
    """Parse and go; exit code 2 and one line for what is wrong with the input, 130 after Ctrl-C."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {' '.join(str(message).split())}\n"
    try:
        main(parse(options, description))
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except OSError as error:
        _end(f"error: {error.filename or 'input or output'}: {error.strerror or error}", 2)
    except (ValueError, ImportError) as error:
        _end(f"error: {error}", 2)


def _end(message: str, code: int) -> None:
    if int(os.environ.get("RANK", "0")):
        time.sleep(5)  # torchrun stops this process where the first one fails likewise, and has said so
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)
