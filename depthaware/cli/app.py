"""`depthaware app`: a web page that animates portraits."""

import sys
import threading
from argparse import ArgumentParser, Namespace

from .._optional import require
from .common import add_model, check_weights, load_model


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    host = "address to listen at; 0.0.0.0 lets others in the network use the page (default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", help=host)
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860)")
    seconds = "length of a driving video at most (default: %(default)s)"
    parser.add_argument("--max-seconds", type=float, default=60, metavar="N", help=seconds)
    megabytes = "size of a file at most (default: %(default)s)"
    parser.add_argument("--max-megabytes", type=int, default=200, metavar="N", help=megabytes)


def check(args: Namespace) -> None:
    """Refuse options that cannot work, without PyTorch."""
    for name in ("max_seconds", "max_megabytes"):
        if not getattr(args, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(args, name)}")
    if args.port is not None and not 1 <= args.port <= 65535:
        raise ValueError(f"--port: expected 1 to 65535, got {args.port}")
    check_weights(args)


def run(args: Namespace) -> str:
    """Serve the page until Ctrl-C."""
    require("gradio", "app")
    from ..app.server import serve
    from ..app.studio import Limits, Studio

    studio = Studio(load_model(args), Limits(args.max_megabytes, args.max_seconds))
    with serve(studio, host=args.host, port=args.port) as url:
        if not args.quiet:
            print(f"depthaware: open {url} in a browser; Ctrl-C ends", file=sys.stderr, flush=True)
        threading.Event().wait()
    return "closed"
