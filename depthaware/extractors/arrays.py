"""Conversion between image tensors and the arrays of third-party libraries, and a cache of results."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.image import Image, to_uint8


def to_arrays(images: Tensor) -> list[Image]:
    """Convert images (B, 3, H, W) in [0, 1] to B arrays uint8 (H, W, 3), RGB; images with NaN become black.

    Raises:
        ValueError: if shape, dtype or range differ; faces in such images would be missed silently.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images: expected floats (B, 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}")
    images = images.detach().float()
    finite = images.isfinite().all(dim=1, keepdim=True).all(2, keepdim=True).all(3, keepdim=True)
    images = images.where(finite, 0)
    if images.numel() and ((low := images.min().item()) < -0.01 or images.max().item() > 1.01):
        raise ValueError(f"images: expected values in [0, 1], got {low:.4g} to {images.max().item():.4g}")
    return list(to_uint8(images))


def rows(find: Callable[[Image], Any], images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Apply `find` to each image and stack the results to (B, *shape), with NaN where it returns None."""
    result = np.full((len(images), *shape), np.nan, dtype=np.float32)
    for i, image in enumerate(to_arrays(images)):
        if (found := find(image)) is not None:
            result[i] = found
    return torch.from_numpy(result)


class Cached:
    """First-in, first-out cache of a function of images; source and driving images recur during an evaluation.

    Args:
        function: of one image.
        size: number of images whose results are kept.
    """

    def __init__(self, function: Callable[[Image], Any], *, size: int = 4096) -> None:
        self.function, self.size = function, size
        self.results: dict[bytes, Any] = {}

    def __call__(self, image: Image) -> Any:
        key = hashlib.blake2b(image.tobytes() + str(image.shape).encode(), digest_size=16).digest()
        if key not in self.results:
            if len(self.results) >= self.size:
                del self.results[next(iter(self.results))]  # the oldest
            self.results[key] = self.function(image)
        return self.results[key]
