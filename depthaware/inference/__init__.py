"""Inference: animation, depth maps, and models optimized for speed."""

from .. import submodules
from .animation import AnimatedFrame, animate, animate_to_file
from .animator import Animator
from .optimization import optimize
from .options import AnimateOptions

__all__ = ["AnimateOptions", "AnimatedFrame", "Animator", "animate", "animate_to_file", "optimize"]

__getattr__ = submodules(__name__)
