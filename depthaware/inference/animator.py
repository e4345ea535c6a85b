"""Animate one source image, batch by batch of driving frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..keypoints import Keypoints, face_scale, transfer_motion
from ..media.image import AnyImage, Fit, fit_square
from ..media.threads import AHEAD, prefetch
from ..media.video import Frame
from .inputs import check_precision

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
    """Options of `animate`, described there; `initial_frame` and `batch_size` have no effect on `Animator.step`."""

    mode: Mode = "relative"
    adaptive_scale: bool = True
    initial_frame: int | Literal["best"] = 0
    fit: Fit = "crop"
    batch_size: int = 8
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.mode not in ("relative", "absolute"):
            raise ValueError(f"mode: expected 'relative' or 'absolute', got {self.mode!r}")
        if self.initial_frame != "best" and (not isinstance(self.initial_frame, int) or self.initial_frame < 0):
            raise ValueError(f"initial_frame: expected 'best' or an index from 0, got {self.initial_frame!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {self.batch_size}")
        if not isinstance(self.dtype, torch.dtype):
            raise ValueError(f"dtype: expected a torch.dtype, got {self.dtype!r}")


class Animator:
    """Animates one source image, batch by batch, for callers with a loop of their own: a camera, a live view.

    Args:
        model: on the target device.
        source_image: path, image of Pillow, uint8 (H, W, 3), or floats (3, H, W) in [0, 1], see `load_image`.
        options: those of `animate`.

    Attributes:
        source_image: (1, 3, S, S) in [0, 1], the model's input, with S = model.image_size.
    """

    @torch.inference_mode()
    def __init__(self, model: SupportsAnimation, source_image: AnyImage, options: AnimateOptions | None = None) -> None:
        check_precision(model)
        self.model, self.options = model, options or AnimateOptions()
        self.source_image = self.fit(source_image)
        self._source = model.encode_source(self.source_image)
        self._reference: Keypoints | None = None
        self._scale: bool | Tensor = False

    @property
    def reference(self) -> Keypoints | None:
        """Driving key points (batch 1) that relative motion starts from; those of the first frame unless set before."""
        return self._reference

    @reference.setter
    @torch.inference_mode()
    def reference(self, keypoints: Keypoints | None) -> None:
        self._reference = keypoints
        if keypoints is not None and self.options.adaptive_scale and self.options.mode == "relative":
            self._scale = face_scale(self._source.keypoints, keypoints)  # waits for the device, so once

    @torch.inference_mode()
    def step(self, frames: Tensor) -> Tensor:
        """Generate a frame for each driving frame.

        Args:
            frames: (B, 3, S, S) in [0, 1], see `fit`; B may be 0.

        Returns:
            (B, 3, S, S) in [0, 1].
        """
        if not len(frames):
            return frames
        kp_driving = self.model.detect_keypoints(frames)
        if self.reference is None:
            self.reference = _select(kp_driving, 0)
        moved = transfer_motion(
            self._source.keypoints, kp_driving, self.reference, mode=self.options.mode, adaptive_scale=self._scale
        )
        return self.model.drive(self._source, moved, dtype=self.options.dtype)

    def fit(self, image: AnyImage) -> Tensor:
        """Turn an image of any shape into the model's input (1, 3, S, S) on its device, see `fit_square`."""
        model: Any = self.model
        device = model.device if hasattr(model, "device") else next(model.parameters()).device
        return fit_square(image, self.model.image_size, self.options.fit, device)

    @torch.inference_mode()
    def find_reference(self, driving: Driving) -> None:
        """Set `reference` to the key points of the driving frame that the option `initial_frame` chooses.

        Raises:
            ValueError: if there is no such frame, or `driving` can be read only once.
        """
        initial = self.options.initial_frame
        if iter(driving) is driving:
            raise ValueError(f"initial_frame={initial!r}: reads the driving video twice, expected no generator")
        chosen = _timed(driving) if initial == "best" else [_frame_at(driving, initial)]
        with prefetch(self._batches(chosen), AHEAD) as ahead:
            keypoints = (self.model.detect_keypoints(images) for images, _ in ahead)
            self.reference = nearest_pose(self._source.keypoints, keypoints)

    def batches(self, driving: Driving) -> Iterator[tuple[Tensor, list[Fraction]]]:
        """Read driving frames as inputs of `step`, `batch_size` at a time, each batch with the times of its frames."""
        return self._batches(_timed(driving))

    def _batches(self, frames: Iterable[tuple[AnyImage, Fraction]]) -> Iterator[tuple[Tensor, list[Fraction]]]:
        stream = ((self.fit(image), time) for image, time in frames)
        while chunk := list(islice(stream, self.options.batch_size)):
            yield torch.cat([image for image, _ in chunk]), [time for _, time in chunk]


def nearest_pose(kp_source: Keypoints, driving: Iterable[Keypoints]) -> Keypoints:
    """Find the driving key points most similar to the source's, up to position and size of the faces.

    Args:
        kp_source: of one image.
        driving: those of the driving frames, in batches.

    Returns:
        Key points of one frame.
    """

    def shape(keypoints: Keypoints) -> Tensor:
        centered = keypoints.value - keypoints.value.mean(dim=1, keepdim=True)
        return centered / centered.norm(dim=(1, 2), keepdim=True).clamp_min(1e-8)

    def nearest(batch: Keypoints) -> tuple[float, Keypoints]:
        distance, index = (shape(batch) - shape(kp_source)).norm(dim=(1, 2)).min(dim=0)
        return distance.item(), _select(batch, int(index))

    return min(map(nearest, driving), key=lambda found: found[0])[1]


def _select(keypoints: Keypoints, index: int) -> Keypoints:
    value, jacobian = keypoints
    one = slice(index, index + 1)  # a list would have to be sent to the device
    return Keypoints(value[one], None if jacobian is None else jacobian[one])


def _timed(driving: Driving) -> Iterator[tuple[AnyImage, Fraction]]:
    for index, item in enumerate(driving):
        yield (item.image, item.time) if isinstance(item, Frame) else (item, Fraction(index, 25))


def _frame_at(driving: Driving, index: int) -> tuple[AnyImage, Fraction]:
    count = 0
    for count, frame in enumerate(_timed(driving), start=1):
        if count == index + 1:
            return frame
    raise ValueError(f"initial_frame: expected 'best' or one of the driving frames, 0 to {count - 1}, got {index}")
