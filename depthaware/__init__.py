"""Depth-aware PyTorch modules and losses for talking-head video generation (DaGAN, CVPR 2022)."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import CrossModalAttention as CrossModalAttention
    from .dagan import DaGAN as DaGAN
    from .dagan import DaGANOutput as DaGANOutput
    from .dagan import SourceEncoding as SourceEncoding
    from .depth import SelfSupDepthNet as SelfSupDepthNet
    from .discriminator import MultiScaleDiscriminator as MultiScaleDiscriminator
    from .generator import DepthAwareGenerator as DepthAwareGenerator
    from .generator import FeatureEncoder as FeatureEncoder
    from .inference.animation import animate as animate
    from .inference.optimization import optimize as optimize
    from .keypoints import Keypoints as Keypoints
    from .keypoints import RGBDKeypointDetector as RGBDKeypointDetector
    from .keypoints import transfer_motion as transfer_motion
    from .media.notebook import show as show
    from .media.still import read_image as read_image
    from .media.video import read_video as read_video
    from .motion import DenseMotion as DenseMotion
    from .motion import DenseMotionNetwork as DenseMotionNetwork
    from .pose import Pose as Pose
    from .pose import PoseNet as PoseNet
    from .pretrained.locate import list_models as list_models

# Imported on first use: `depthaware --help` needs no PyTorch, and a module or a loss no PyAV.
_HOMES = {
    "attention": ["CrossModalAttention"],
    "dagan": ["DaGAN", "DaGANOutput", "SourceEncoding"],
    "depth": ["SelfSupDepthNet"],
    "discriminator": ["MultiScaleDiscriminator"],
    "generator": ["DepthAwareGenerator", "FeatureEncoder"],
    "inference.animation": ["animate"],
    "inference.optimization": ["optimize"],
    "keypoints": ["Keypoints", "RGBDKeypointDetector", "transfer_motion"],
    "media.notebook": ["show"],
    "media.still": ["read_image"],
    "media.video": ["read_video"],
    "motion": ["DenseMotion", "DenseMotionNetwork"],
    "pose": ["Pose", "PoseNet"],
    "pretrained.locate": ["list_models"],
}
__all__ = sorted(name for names in _HOMES.values() for name in names)
__version__: str


def submodules(package: str) -> Callable[[str], ModuleType]:
    """The `__getattr__` of a package whose submodules are imported when they are first used as attributes."""

    def find(name: str) -> ModuleType:
        try:
            return import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None

    return find


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("depthaware")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    return submodules(__name__)(name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
