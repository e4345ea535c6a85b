"""The `depthaware` command: `main`, and one file a subcommand."""

from .. import submodules

__getattr__ = submodules(__name__)
