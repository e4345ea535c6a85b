"""Inference: animation, depth maps, and models optimized for speed."""

from .. import submodules
from .animation import AnimatedFrame, animate, animate_to_file
from .animator import Animator
from .image_driving import animate_to_image
from .optimization import optimize
from .options import AnimateOptions
from .template import MotionTemplate, record_motion

__all__ = [
    "AnimateOptions",
    "AnimatedFrame",
    "Animator",
    "MotionTemplate",
    "animate",
    "animate_to_file",
    "animate_to_image",
    "optimize",
    "record_motion",
]

__getattr__ = submodules(__name__)
