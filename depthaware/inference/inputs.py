"""Whatever is given to `animate`, checked and opened."""

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, overload

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ..media.image import AnyImage, Image, load_image
from ..media.video import Video, read_video


@overload
def as_driving(driving: str | Path | Video) -> Video: ...
@overload
def as_driving(driving: str | Path | Iterable[Any]) -> Iterable[Any]: ...
def as_driving(driving: str | Path | Iterable[Any]) -> Iterable[Any]:
    """Open a driving video given as a path, and check other iterables of frames.

    Args:
        driving: path of a video, folder or pattern; `Video`; or frames, each a `Frame` or an image of any kind.

    Returns:
        A `Video`, or the same frames.

    Raises:
        ValueError: if it is empty, or a single image. A generator is found empty when it is read.
    """
    if isinstance(driving, str | Path):
        if not str(driving):
            raise ValueError("driving: expected a video, a folder or a pattern of frames, got an empty path")
        return read_video(driving)
    if isinstance(driving, PIL.Image.Image) or (isinstance(driving, np.ndarray | Tensor) and driving.ndim < 4):
        raise ValueError("driving: expected a video or several frames, got a single image")
    if isinstance(driving, Sized) and not isinstance(driving, Video) and not len(driving):
        raise ValueError("driving: has no frames")
    return _not_empty(driving) if isinstance(driving, Iterator) else driving


def _not_empty(frames: Iterator[Any]) -> Iterator[Any]:
    count = 0
    for count, frame in enumerate(frames, start=1):  # noqa: B007
        yield frame
    if count == 0:
        raise ValueError("driving: has no frames")


def opened(image: AnyImage) -> Image | Tensor:
    """Read an image given as a path or as an image of Pillow; arrays and tensors are left as they are."""
    return load_image(image) if isinstance(image, str | Path | PIL.Image.Image) else image


def device_of(model: Any) -> torch.device:
    """Device of a model that can be animated."""
    return model.device if hasattr(model, "device") else next(model.parameters()).device


def check_precision(model: Any) -> None:
    """Raise ValueError for a model converted as a whole to another dtype, such as `model.half()`."""
    dtypes = {parameter.dtype for parameter in model.parameters()} if hasattr(model, "parameters") else set()
    if dtypes and torch.float32 not in dtypes:
        found = str(dtypes.pop()).removeprefix("torch.")
        raise ValueError(
            f"model: its weights are {found}, expected float32; for speed give dtype=torch.{found} instead"
        )
