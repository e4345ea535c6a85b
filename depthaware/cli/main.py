"""The `depthaware` command. Options and paths are checked before torch and av, which are slow, are imported."""

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType, ModuleType
from typing import Any, NoReturn

from .._optional import require
from . import animate, app, attention, compare, convert, depth, evaluate, export, inspect, live
from .common import MISTAKES, describe, say, telling_memory
from .config import add_config, apply_config
from .terminal import one_line, patient_streams, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 after a mistake in the input, 130 after Ctrl-C, 143 after `kill`."""
    with patient_streams() as (out, _):
        try:
            words = [_as_path(word) for word in (sys.argv[1:] if argv is None else argv)]
            parser = _parser(words)
            args = parser.parse_args(words)
            if args.run is None:
                parser.print_help()
                return 0
            args.check(args)
            if args.run is not inspect.run:  # it needs no PyTorch
                _import_libraries(args.quiet)
            with _handling(_interrupt), telling_memory(), warnings.catch_warnings():
                warnings.showwarning = (lambda *_, **__: None) if args.quiet else _warn
                done = args.run(args)
        except KeyboardInterrupt as interrupt:
            return _complain("interrupted", 128 + (interrupt.args or [signal.SIGINT])[0])
        except MISTAKES as error:
            return _complain(f"error: {describe(error)}")
        if not args.quiet:
            say(printable(done))
        if out.error is None:
            return 0
        lost = one_line(str(out.error))
        if args.run is inspect.run:  # which has no other result
            return _complain(f"error: the report cannot be printed ({lost})")
        return _complain(f"warning: the result is written, but this report cannot be printed ({lost})", 0)


def _as_path(word: str) -> str:
    """Tell a file called -me.png from an option."""
    return f"./{word}" if word.startswith("-") and {".", "/"} & set(word) and os.path.exists(word) else word


def _complain(message: str, code: int = 2) -> int:
    over = "\r\033[K" if sys.stderr.isatty() else ""  # write over the progress bar
    print(f"{over}depthaware: {one_line(message)}", file=sys.stderr)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"depthaware: warning: {one_line(str(message))}", sys.stderr)


def _import_libraries(quiet: bool) -> None:
    """Import PyTorch and the rest, which takes seconds; NumPy makes an ImportError of Ctrl-C, so it is handled here."""
    if not quiet and "torch" not in sys.modules:
        print("depthaware: loading PyTorch", file=sys.stderr, flush=True)
    with _handling(lambda number, _: os._exit(_complain("interrupted", 128 + number))):
        from ..inference import animation  # noqa: F401


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle Ctrl-C, `kill` and the terminal's end, unless the process was started with them ignored."""
    if threading.current_thread() is not threading.main_thread():  # others cannot, and get no signals
        yield
        return
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in known if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _interrupt(number: int, _: FrameType | None) -> None:
    for name in ("SIGTERM", "SIGHUP"):  # systemd and terminals send both; the second would interrupt the cleaning up
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise KeyboardInterrupt(number)  # files are cleaned up after it as after Ctrl-C


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):
            message += ", ./-NAME if it begins with a dash"
        raise ValueError(message)  # ends in one line, like every other mistake


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *values: Any) -> None:
        """Print the script of a shell and exit."""
        shtab = require("shtab", "completion")
        commands = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
        for action in (action for command in commands.values() for action in command._actions):
            if not action.choices and action.nargs != 0:
                action.complete = shtab.FILE
        print(shtab.complete(parser, values[1]))
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser, with the values of --config as defaults of the command that the words begin with."""
    parser = _Parser("depthaware", description="Depth-aware talking-head video generation.")
    parser.add_argument("--version", action="version", version=f"depthaware {version('depthaware')}")
    completion = 'print the completion script of a shell: eval "$(depthaware --print-completion bash)"'
    shells = ["bash", "zsh", "tcsh"]
    parser.add_argument(
        "--print-completion", action=_Completion, choices=shells, default=argparse.SUPPRESS, help=completion
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(run=None, configured={})

    def command(module: ModuleType, help: str) -> None:
        name = module.__name__.rpartition(".")[2]
        subparser = commands.add_parser(name, help=help)
        subparser.add_argument("--quiet", action="store_true", help="print errors only")
        module.add(subparser)
        add_config(subparser)
        subparser.set_defaults(check=module.check, run=module.run)
        if name in words[:1]:
            apply_config(subparser, words)

    command(animate, "animate a portrait with a driving video")
    command(live, "let a portrait follow a camera")
    command(app, "serve a web page that animates")
    command(depth, "estimate the depth of an image or video")
    command(attention, "draw what the generator attends to")
    command(compare, "show models side by side")
    command(evaluate, "evaluate a model on clips")
    command(inspect, "tell whether files claim to be generated")
    command(convert, "convert a DaGAN or FOMM checkpoint")
    command(export, "export a model for ONNX Runtime or PyTorch")
    return parser
