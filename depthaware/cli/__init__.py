"""The `depthaware` command: `main`, and one file a subcommand."""

from .main import main

__all__ = ["main"]
