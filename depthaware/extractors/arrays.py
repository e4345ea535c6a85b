"""Tensors into what other people's libraries take, and what they find back into tensors."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.image import Image, to_uint8


def to_arrays(images: Tensor) -> list[Image]:
    """Images (B, 3, H, W) in [0, 1] -> B pictures, uint8 (H, W, 3), RGB; one with NaN in it becomes black.

    Raises:
        ValueError: if the shape, type or range is another: faces would be missed without a word.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images: expected floats (B, 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}")
    images = images.detach().float()
    whole = images.isfinite().all(dim=1, keepdim=True).all(2, keepdim=True).all(3, keepdim=True)
    images = images.where(whole, 0)
    if images.numel() and ((low := images.min().item()) < -0.01 or images.max().item() > 1.01):
        raise ValueError(f"images: expected values in [0, 1], got {low:.4g} to {images.max().item():.4g}")
    return list(to_uint8(images))


def rows(find: Callable[[Image], Any], images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What `find` makes of each picture, stacked to (B, *shape); NaN where it finds None."""
    result = np.full((len(images), *shape), np.nan, dtype=np.float32)
    for i, picture in enumerate(to_arrays(images)):
        if (found := find(picture)) is not None:
            result[i] = found
    return torch.from_numpy(result)


class Remembered:
    """A function of pictures that does not look twice at the same one: drivers and sources come again and again.

    Args:
        function: of a picture.
        size: of how many pictures the results are kept.
    """

    def __init__(self, function: Callable[[Image], Any], *, size: int = 4096) -> None:
        self.function, self.size = function, size
        self.results: dict[bytes, Any] = {}

    def __call__(self, picture: Image) -> Any:
        key = hashlib.blake2b(picture.tobytes() + str(picture.shape).encode(), digest_size=16).digest()
        if key not in self.results:
            if len(self.results) >= self.size:
                del self.results[next(iter(self.results))]  # the oldest
            self.results[key] = self.function(picture)
        return self.results[key]
