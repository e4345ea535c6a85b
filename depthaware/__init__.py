"""Depth-aware PyTorch modules and losses for talking-head video generation (DaGAN, CVPR 2022)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .animation import animate as animate
    from .attention import CrossModalAttention as CrossModalAttention
    from .dagan import DaGAN as DaGAN
    from .dagan import DaGANOutput as DaGANOutput
    from .dagan import SourceEncoding as SourceEncoding
    from .depth import SelfSupDepthNet as SelfSupDepthNet
    from .discriminator import MultiScaleDiscriminator as MultiScaleDiscriminator
    from .generator import DepthAwareGenerator as DepthAwareGenerator
    from .image import read_image as read_image
    from .keypoints import Keypoints as Keypoints
    from .keypoints import RGBDKeypointDetector as RGBDKeypointDetector
    from .keypoints import transfer_motion as transfer_motion
    from .motion import DenseMotion as DenseMotion
    from .motion import DenseMotionNetwork as DenseMotionNetwork
    from .optimization import optimize as optimize
    from .pose import Pose as Pose
    from .pose import PoseNet as PoseNet
    from .video import read_video as read_video

# Imported when first asked for: `depthaware --help` needs no PyTorch, and a module or a loss no PyAV.
_HOMES = {
    "animation": ["animate"],
    "attention": ["CrossModalAttention"],
    "dagan": ["DaGAN", "DaGANOutput", "SourceEncoding"],
    "depth": ["SelfSupDepthNet"],
    "discriminator": ["MultiScaleDiscriminator"],
    "generator": ["DepthAwareGenerator"],
    "image": ["read_image"],
    "keypoints": ["Keypoints", "RGBDKeypointDetector", "transfer_motion"],
    "motion": ["DenseMotion", "DenseMotionNetwork"],
    "optimization": ["optimize"],
    "pose": ["Pose", "PoseNet"],
    "video": ["read_video"],
}
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    if name in {"extractors", "losses", "metrics"}:
        return import_module(f".{name}", __name__)
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
