"""Frames larger than those that the weights were trained on."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dagan import DaGAN, SourceEncoding
from ..keypoints import Keypoints
from .optimization import OptimizedDaGAN


class EnlargedDaGAN(nn.Module):
    """A model that generates frames of another size; made by `enlarge`, with the interface of a `DaGAN` for inference.

    Args:
        model: trained.
        size: side of the frames in pixels.

    Attributes:
        image_size: `size`.
    """

    def __init__(self, model: DaGAN | OptimizedDaGAN, size: int) -> None:
        super().__init__()
        self.model, self.image_size = model, size

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """`DaGAN.detect_keypoints`, of images of any size."""
        return self.model.detect_keypoints(self._small(image))

    def encode_source(self, source_image: Tensor) -> SourceEncoding:
        """`DaGAN.encode_source` of (B, 3, S, S), S = `image_size`; its `disparity` has the same size."""
        small = self._small(source_image)
        keypoints, disparity = self.model.detect(small)
        if disparity is not None:
            disparity = _resized(disparity, self.image_size)
        features = self.model.generator.encode(source_image, disparity)
        return SourceEncoding(source_image, self.model.dense_motion.down(small), disparity, keypoints, features)

    def drive(self, source: SourceEncoding, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """`DaGAN.drive`, to (B, 3, S, S)."""
        return self.model.drive(source, kp_driving, dtype=dtype)

    def _small(self, image: Tensor) -> Tensor:
        return _resized(image, self.model.image_size)


def enlarge(model: DaGAN | OptimizedDaGAN, size: int) -> EnlargedDaGAN:
    """Let a model generate frames larger than those that it was trained on.

    The generator is convolutional and takes a larger image as it is. Key points, depth and motion do not: they are
    estimated at the trained size and enlarged.

    Args:
        model: trained, or the result of `optimize`.
        size: side of the frames, a multiple of `model.image_size`.
    """
    check_size(model, size)
    return EnlargedDaGAN(model, size).eval()


def check_size(model: DaGAN | OptimizedDaGAN, size: int, name: str = "size") -> None:
    """Raise ValueError unless `enlarge` can make frames of that size."""
    if size < model.image_size or size % model.image_size:
        raise ValueError(f"{name}: expected a multiple of the trained {model.image_size} pixels, got {size}")


def _resized(image: Tensor, side: int) -> Tensor:
    if image.shape[-2:] == (side, side):
        return image
    return F.interpolate(image, size=(side, side), mode="bilinear", antialias=True)
