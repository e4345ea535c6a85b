"""Former place of `run`."""

from .options import run as run
