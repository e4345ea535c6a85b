"""Weights: bundled, on disk, on the Hub, and from checkpoints of other code."""

from .. import submodules

__getattr__ = submodules(__name__)
