"""The `depthaware` command. torch and av are imported where they are used, so that --help answers at once."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType
from typing import NoReturn

from .commands import animate, convert, depth


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 after anything that is wrong with the input, 130 after Ctrl-C."""
    try:
        args = _parser().parse_args(argv)
        _import_libraries()
        done = args.run(args)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except OSError as error:
        return _complain(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
    except (ValueError, MemoryError) as error:
        return _complain(f"error: {error or 'out of memory'}")
    except RuntimeError as error:  # PyTorch's only sign of this, on CPU and GPU
        if not re.search("out of memory|allocate memory|not enough memory", str(error)):
            raise
        return _complain("error: out of memory, try a smaller --batch-size or another --device")
    if not args.quiet:
        print(done)
    return 0


def _complain(message: str, code: int = 2) -> int:
    over = "\r\033[K" if sys.stderr.isatty() else ""  # write over the progress bar
    print(f"{over}depthaware:", " ".join(message.split()), file=sys.stderr)
    return code


def _import_libraries() -> None:
    """Import what takes long; NumPy turns a Ctrl-C that comes meanwhile into an ImportError, so it is answered here."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(_complain("interrupted", 130)))
    try:
        from . import animation, depth_map  # noqa: F401
    finally:
        signal.signal(signal.SIGINT, before)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)  # ends in one line, like every other mistake


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("depthaware", description="Depth-aware talking heads: a portrait moves like a video.")
    parser.add_argument("--version", action="version", version=f"depthaware {version('depthaware')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(module: ModuleType, help: str) -> None:
        subparser = commands.add_parser(module.__name__.rpartition(".")[2], help=help)
        subparser.add_argument("--quiet", action="store_true", help="print errors only")
        module.add(subparser)
        subparser.set_defaults(run=module.run)

    command(animate, "let a portrait move like a video")
    command(depth, "depth of a picture or video")
    command(convert, "turn a DaGAN or FOMM checkpoint into our format")
    return parser


if __name__ == "__main__":
    sys.exit(main())
