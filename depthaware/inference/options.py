"""Options of animation, and the interface of models that can be animated."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from ..keypoints import Keypoints
from ..media.image import AnyImage, Fit
from ..media.video import Frame

Mode = Literal["relative", "absolute"]
Driving = Iterable[Frame | AnyImage]


class SupportsAnimation(Protocol):
    """Interface of the models that can be animated: `DaGAN`, its optimized copy and its export.

    A model also has a `device`, or `parameters()` on one.

    Attributes:
        image_size: side of the images.
    """

    image_size: int

    def encode_source(self, source_image: Tensor, /) -> Any:
        """Encode an image (1, 3, H, W) in [0, 1]; the result has its `keypoints` and is an input of `drive`."""

    def detect_keypoints(self, image: Tensor, /) -> Keypoints:
        """Detect the key points of images (B, 3, H, W) in [0, 1]."""

    def drive(self, source: Any, kp_driving: Keypoints, /, *, dtype: torch.dtype) -> Tensor:
        """Generate frames (B, 3, H, W) in [0, 1], the generator computing in `dtype`."""


@dataclass(frozen=True)
class AnimateOptions:
    """Options of `animate`, described there; `batch_size` has no effect on `Animator.step`."""

    mode: Mode = "relative"
    adaptive_scale: bool = True
    initial_frame: int | Literal["auto", "best"] = "auto"
    fit: Fit | Literal["face"] = "face"
    batch_size: int = 8
    dtype: torch.dtype = torch.float32
    face: int | Literal["largest", "all"] = "largest"
    follow: bool = False
    paste: bool = True
    max_size: int = 1920
    scenes: bool = True
    smooth: bool = False
    strength: float = 1.0
    head: float = 1.0
    expression: float = 1.0
    freeze_background: bool = False

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, get_args(Mode))
        _one_of("fit", self.fit, ("face", *get_args(Fit)))
        _one_of("initial_frame", self.initial_frame, ("auto", "best"), index=True)
        _one_of("face", self.face, ("largest", "all"), index=True)
        for name in ("batch_size", "max_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("strength", "head", "expression"):
            if not 0 <= getattr(self, name) <= 3:
                raise ValueError(f"{name}: expected 0 to 3, got {getattr(self, name)}")
        if not isinstance(self.dtype, torch.dtype):
            raise ValueError(f"dtype: expected a torch.dtype, got {self.dtype!r}")

    @property
    def tracks(self) -> bool:
        """True if the driving video is searched for a face."""
        return self.fit == "face" or self.initial_frame == "auto"


def _one_of(name: str, value: object, choices: tuple[str, ...], *, index: bool = False) -> None:
    if value in choices or (index and isinstance(value, int) and value >= 0):
        return
    expected = [repr(choice) for choice in choices] + ["an index from 0"] * index
    raise ValueError(f"{name}: expected {', '.join(expected[:-1])} or {expected[-1]}, got {value!r}")
