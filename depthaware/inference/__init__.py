"""Inference: animation, depth maps, and a model made fast."""

from .. import submodules

__getattr__ = submodules(__name__)
