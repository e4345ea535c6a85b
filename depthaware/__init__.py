"""Depth-aware PyTorch modules and losses for talking-head video generation (DaGAN, CVPR 2022)."""

from typing import TYPE_CHECKING, Any

from .attention import CrossModalAttention
from .dagan import DaGAN, DaGANOutput, SourceEncoding
from .depth import SelfSupDepthNet
from .discriminator import MultiScaleDiscriminator
from .generator import DepthAwareGenerator
from .keypoints import Keypoints, RGBDKeypointDetector, transfer_motion
from .motion import DenseMotion, DenseMotionNetwork
from .pose import Pose, PoseNet

if TYPE_CHECKING:
    from .animation import animate
    from .image import read_image
    from .video import read_video

__all__ = [
    "CrossModalAttention",
    "DaGAN",
    "DaGANOutput",
    "DenseMotion",
    "DenseMotionNetwork",
    "DepthAwareGenerator",
    "Keypoints",
    "MultiScaleDiscriminator",
    "Pose",
    "PoseNet",
    "RGBDKeypointDetector",
    "SelfSupDepthNet",
    "SourceEncoding",
    "animate",
    "read_image",
    "read_video",
    "transfer_motion",
]

# These need PyAV, which somebody who imports a module or a loss does not.
_LAZY = {"animate": "animation", "read_image": "image", "read_video": "video"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
