"""Animation with networks of the FOMM family, retrofitted or bare."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..keypoints import Keypoints
from . import fomm


class FOMMSource(NamedTuple):
    """A source of `AnimatedFOMM`.

    Attributes:
        image: (1, 3, S, S).
        keypoints: of the source.
    """

    image: Tensor
    keypoints: Keypoints


class AnimatedFOMM(nn.Module):
    """FOMM's key point detector and generator, or their retrofits, with the interface that `animate` needs.

    Args:
        kp_detector: image (B, 3, H, W) -> {"value": (B, N, 2), "jacobian": (B, N, 2, 2)}.
        generator: (source_image, kp_driving=..., kp_source=...) -> {"prediction": (B, 3, H, W), ...}.
        image_size: side of the square images that the weights were trained on.
    """

    def __init__(self, kp_detector: nn.Module, generator: nn.Module, *, image_size: int = 256) -> None:
        super().__init__()
        self.kp_detector, self.generator, self.image_size = kp_detector, generator, image_size

    def encode_source(self, source_image: Tensor) -> FOMMSource:
        """Detect the key points of a source (1, 3, S, S) in [0, 1]; its features are computed again for every frame."""
        return FOMMSource(source_image, self.detect_keypoints(source_image))

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """Detect the key points of images (B, 3, S, S) in [0, 1]."""
        return fomm.keypoints(self.kp_detector(image))

    def drive(self, source: FOMMSource, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Generate frames (B, 3, S, S) in [0, 1] under B sets of driving key points."""
        count = len(kp_driving.value)
        image = source.image.expand(count, -1, -1, -1)
        kp_source = {name: x.expand(count, *x.shape[1:]) for name, x in _as_dict(source.keypoints).items()}
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            out = self.generator(image, kp_driving=_as_dict(kp_driving), kp_source=kp_source)
        return out["prediction"].float()


def _as_dict(keypoints: Keypoints) -> dict[str, Tensor]:
    return {name: x for name, x in keypoints._asdict().items() if x is not None}


def load_animated_fomm(
    folder: str | Path, checkpoint: str | Path, depth_net: nn.Module | None, *, image_size: int = 256
) -> AnimatedFOMM:
    """Load a retrofit that `fomm.save_retrofit` wrote, of a FOMM that `fomm.load_fomm` loaded, in eval mode.

    Args:
        folder: of the retrofit.
        checkpoint: of the FOMM from before the retrofit.
        depth_net: of the same architecture as the saved one, whose weights replace its own.
        image_size: as of `AnimatedFOMM`.

    Raises:
        ValueError: if the folder holds no retrofit of FOMM, or a network does not fit it.
    """
    if depth_net is None:
        raise ValueError(f"{folder}: expected a depth network like that of the retrofit, got weights without any")
    pair = fomm.load_retrofit(folder, *fomm.load_fomm(checkpoint), depth_net)
    return AnimatedFOMM(*pair, image_size=image_size).eval()
