"""Source image + stream of driving frames -> stream of frames, in batches; and the same into a file."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor

from ..dagan import DaGAN
from ..keypoints import Keypoints, face_scale, transfer_motion
from ..media.atomic import check_output
from ..media.image import Fit, Image, fetch, fit_square, from_pixels, to_pixels, to_uint8
from ..media.threads import background, prefetch
from ..media.video import Frame, OutputInfo, Progress, Video, write_video
from .depth_maps import AHEAD, gray_painter

Driving = Iterable[Frame | Image | Tensor]
_Timed = tuple[Image | Tensor, Fraction]
_Batch = tuple[Tensor, list[Fraction]]


class SupportsAnimation(Protocol):
    """What animation needs of a model: `DaGAN`, or an export of one; it also has a `device`, or `parameters()` on one.

    Attributes:
        image_size: side of the images.
    """

    image_size: int

    def encode_source(self, source_image: Tensor, /) -> Any:
        """(1, 3, H, W) in [0, 1] -> whatever `drive` needs of it, and its `keypoints`."""

    def detect_keypoints(self, image: Tensor, /) -> Keypoints:
        """Those of images (B, 3, H, W) in [0, 1]."""

    def drive(self, source: Any, kp_driving: Keypoints, /, *, dtype: torch.dtype) -> Tensor:
        """Frames (B, 3, H, W) in [0, 1]; `dtype` is that of the heavy part of the work."""


def animate(
    model: SupportsAnimation,
    source_image: Image | Tensor,
    driving: Driving,
    *,
    mode: Literal["relative", "absolute"] = "relative",
    adaptive_scale: bool = True,
    initial_frame: int | Literal["best"] = 0,
    fit: Fit = "crop",
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Frame]:
    """Let the source move like the driver: one `Frame` for each driving frame, while they come.

    Args:
        model: on the device where the work shall be done.
        source_image: uint8 (H, W, 3) as from `read_image`, or floats (1, 3, H, W) in [0, 1].
        driving: `read_video("clip.mp4")`, or any images like the source's, taken as 25 a second.
        mode: "relative" adds the driver's motion since `initial_frame` to the pose and shape of the source's own face;
            "absolute" takes the driver's key points as they are.
        adaptive_scale: relative motion grows with the size of the source's face over that of the driver's.
        initial_frame: index of the driving frame that poses like the source; "best" looks for it. Any but 0 reads the
            driver twice.
        fit: how pictures become square, see `fit_square`.
        batch_size: frames at a time; the result does not depend on it.
        dtype: of the generator's work (automatic mixed precision); key points and motion are always float32.

    Returns:
        Frames of model.image_size x model.image_size pixels, each with the time of its driving frame and with what the
        model saw of that.

    Raises:
        ValueError: if an option or the shape of an image is none of the above, or there is no such initial frame.
    """
    batches, draw = _prepare(
        model,
        source_image,
        driving,
        mode=mode,
        adaptive_scale=adaptive_scale,
        initial_frame=initial_frame,
        fit=fit,
        batch_size=batch_size,
        dtype=dtype,
    )
    return chain.from_iterable(_frames(draw(images), images, times) for images, times in batches)


def _frames(made: Tensor, seen: Tensor, times: list[Fraction]) -> list[Frame]:
    both = to_uint8(torch.cat((made, seen)))  # one copy from the device
    return [Frame(both[i], time, both[len(times) + i]) for i, time in enumerate(times)]


@torch.inference_mode()
def _prepare(
    model: SupportsAnimation,
    source_image: Image | Tensor,
    driving: Driving,
    *,
    mode: Literal["relative", "absolute"],
    adaptive_scale: bool,
    initial_frame: int | Literal["best"],
    fit: Fit,
    batch_size: int,
    dtype: torch.dtype,
) -> tuple[Iterator[_Batch], Callable[[Tensor], Tensor]]:
    """Do all that comes before the first frame -> batches of driving images, and the function that draws one."""
    if mode not in ("relative", "absolute"):
        raise ValueError(f"mode: expected 'relative' or 'absolute', got {mode!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    device = _device(model)
    source = model.encode_source(fit_square(source_image, model.image_size, fit, device))
    batches = partial(_batches, size=model.image_size, fit=fit, batch_size=batch_size, device=device)
    kp_initial: Keypoints | None = None
    if initial_frame != 0 and mode == "relative":
        if iter(driving) is driving:
            raise ValueError(f"initial_frame={initial_frame!r}: reads the driver twice, expected no generator")
        chosen = _timed(driving) if initial_frame == "best" else [_frame_at(driving, initial_frame)]
        with prefetch(batches(chosen), AHEAD) as ahead:
            kp_initial = nearest_pose(source.keypoints, (model.detect_keypoints(images) for images, _ in ahead))

    scale: bool | Tensor = adaptive_scale and mode == "relative"

    @torch.inference_mode()
    def draw(images: Tensor) -> Tensor:
        nonlocal kp_initial, scale
        kp_driving = model.detect_keypoints(images)
        kp_initial = kp_initial or _select(kp_driving, 0)
        scale = face_scale(source.keypoints, kp_initial) if scale is True else scale  # waits for the device, so once
        moved = transfer_motion(source.keypoints, kp_driving, kp_initial, mode=mode, adaptive_scale=scale)
        return model.drive(source, moved, dtype=dtype)

    return batches(_timed(driving)), draw


def _device(model: Any) -> torch.device:
    return model.device if hasattr(model, "device") else next(model.parameters()).device


def _batches(
    frames: Iterable[_Timed], *, size: int, fit: Fit, batch_size: int, device: torch.device
) -> Iterator[_Batch]:
    stream = ((fit_square(image, size, fit, device), time) for image, time in frames)
    while chunk := list(islice(stream, batch_size)):
        yield torch.cat([image for image, _ in chunk]), [time for _, time in chunk]


def nearest_pose(kp_source: Keypoints, driving: Iterable[Keypoints]) -> Keypoints:
    """Of many frames' key points, those most like the source's once place and size of the faces are taken out.

    Args:
        kp_source: of one image.
        driving: of the frames, in batches.

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


def _timed(driving: Driving) -> Iterator[_Timed]:
    for index, item in enumerate(driving):
        yield (item.image, item.time) if isinstance(item, Frame) else (item, Fraction(index, 25))


def _frame_at(driving: Driving, index: int) -> _Timed:
    count = 0
    for count, frame in enumerate(_timed(driving), start=1):
        if count == index + 1:
            return frame
    raise ValueError(f"initial_frame: expected 'best' or one of the driver's frames, 0 to {count - 1}, got {index}")


def animate_to_file(
    model: SupportsAnimation,
    source_image: Image,
    driving: Video,
    output: str | Path,
    *,
    compare: bool = False,
    save_depth: str | Path | None = None,
    audio: bool = True,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> OutputInfo:
    """`animate` into an mp4 with the driver's frame times and sound; reading and writing go on beside the network.

    Args:
        model: as in `animate`.
        source_image: as in `animate`.
        driving: from `read_video`.
        output: path of the mp4.
        compare: show source, driver and result side by side.
        save_depth: path of a second mp4 with the disparity of the generated frames, bright = near.
        audio: take the driver's sound along.
        progress: called with the numbers of frames done and in all.
        options: those of `animate`.
    """
    check_output(output, (".mp4",), others=(driving.path,))
    if save_depth:
        check_output(save_depth, (".mp4",), others=(driving.path, output))
    assert animate.__kwdefaults__ is not None
    batches, draw = _prepare(model, source_image, driving, **{**animate.__kwdefaults__, **options})
    side = model.image_size
    source = to_pixels(fit_square(source_image, side, options.get("fit", "crop"), _device(model)))
    paint = gray_painter(cast(DaGAN, model), from_pixels(source)) if save_depth else None
    size, count = (side, side * 3 if compare else side), 0
    with ExitStack() as stack:
        if save_depth:
            write_depth = stack.enter_context(write_video(save_depth, (side, side), driving.rate, driving.time_base))
        sound = driving.path if audio and driving.audio else None
        write = stack.enter_context(write_video(output, size, driving.rate, driving.time_base, audio=sound))

        def save(panels: Callable[[], Image], times: list[Fraction]) -> None:
            for image, time in zip(panels(), times, strict=True):
                write(Frame(image[:, : size[1]], time))
                if save_depth:
                    write_depth(Frame(image[:, size[1] :], time))

        write_later = stack.enter_context(background(save, AHEAD))
        for images, times in stack.enter_context(prefetch(batches, AHEAD)):
            made = to_pixels(draw(images))
            shown = [source.expand_as(made), to_pixels(images), made] if compare else [made]
            depth = [to_pixels(paint(from_pixels(made)))] if paint else []
            write_later(fetch(torch.cat(shown + depth, dim=2)), times)
            for _ in times:
                count += 1
                progress(count, driving.frames)
    return OutputInfo(Path(output), count, size, driving.rate)
