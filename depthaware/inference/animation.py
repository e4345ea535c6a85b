"""Source image + stream of driving frames -> stream of frames, or a video file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..dagan import DaGAN
from ..media.atomic import check_output
from ..media.image import AnyImage, Fit, Image, fetch, from_pixels, to_pixels, to_uint8
from ..media.threads import AHEAD, background, prefetch
from ..media.video import Frame, OutputInfo, Progress, Video, write_video
from .animator import AnimateOptions, Animator, Driving, Mode, SupportsAnimation
from .depth_maps import gray_painter
from .inputs import as_driving


@dataclass(frozen=True, eq=False)
class AnimatedFrame(Frame):
    """A generated frame.

    Attributes:
        image: uint8 (S, S, 3), RGB.
        time: that of its driving frame, in seconds after the start.
        driving: model input made of the driving frame, uint8 (S, S, 3).
    """

    driving: Image


def animate(
    model: SupportsAnimation,
    source_image: AnyImage,
    driving: str | Path | Driving,
    *,
    mode: Mode = "relative",
    adaptive_scale: bool = True,
    initial_frame: int | Literal["best"] = 0,
    fit: Fit = "crop",
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
) -> Iterator[AnimatedFrame]:
    """Animate a source image; lazily yields one frame per driving frame.

    Args:
        model: on the target device.
        source_image: path, image of Pillow, uint8 (H, W, 3), or floats (3, H, W) in [0, 1], see `load_image`.
        driving: path of a video, folder or pattern; `read_video("clip.mp4")`; or any images like the source's, taken as
            25 a second.
        mode: "relative" adds the driving motion since `initial_frame` to the pose and shape of the source's own face;
            "absolute" takes the driving key points as they are.
        adaptive_scale: scale relative motion by the size of the source's face over that of the driving face.
        initial_frame: index of the driving frame with the pose of the source; "best" searches for it. Any but 0 reads
            the driving video twice.
        fit: how images become square, see `fit_square`.
        batch_size: frames at a time; the result does not depend on it.
        dtype: of the generator's work (automatic mixed precision); key points and motion are always float32.

    Returns:
        Frames of S x S pixels with S = model.image_size, each with its time and its driving frame.

    Raises:
        ValueError: if an option or an image is none of the above, there is no driving frame, or no such initial frame.
    """
    driving = as_driving(driving)
    animator = _start(
        model,
        source_image,
        driving,
        AnimateOptions(mode, adaptive_scale, initial_frame, fit, batch_size, dtype),
    )
    batches = animator.batches(driving)
    return (frame for images, times in batches for frame in _frames(animator.step(images), images, times))


def _start(model: SupportsAnimation, source_image: AnyImage, driving: Driving, options: AnimateOptions) -> Animator:
    animator = Animator(model, source_image, options)
    if options.initial_frame != 0 and options.mode == "relative":
        animator.find_reference(driving)
    return animator


def _frames(made: Tensor, driving: Tensor, times: list[Fraction]) -> list[AnimatedFrame]:
    both = to_uint8(torch.cat((made, driving)))  # one copy from the device
    return [AnimatedFrame(both[i], time, both[len(times) + i]) for i, time in enumerate(times)]


def animate_to_file(
    model: SupportsAnimation,
    source_image: AnyImage,
    driving: str | Path | Video,
    output: str | Path,
    *,
    compare: bool = False,
    save_depth: str | Path | None = None,
    audio: bool = True,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> OutputInfo:
    """`animate` into an mp4 with the driving video's frame times and sound; reads and writes in threads of their own.

    Args:
        model: as in `animate`.
        source_image: as in `animate`.
        driving: path, or from `read_video`.
        output: path of the mp4.
        compare: show source, driving frame and result side by side.
        save_depth: path of a second mp4 with the disparity of the generated frames, bright = near.
        audio: copy the driving video's sound.
        progress: called with the numbers of frames done and in all.
        options: those of `animate`.
    """
    driving = as_driving(driving)
    check_output(output, (".mp4",), others=(driving.path,))
    if save_depth:
        check_output(save_depth, (".mp4",), others=(driving.path, output))
    animator = _start(model, source_image, driving, AnimateOptions(**options))
    side = model.image_size
    source = to_pixels(animator.source_image)
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
        for images, times in stack.enter_context(prefetch(animator.batches(driving), AHEAD)):
            made = to_pixels(animator.step(images))
            shown = [source.expand_as(made), to_pixels(images), made] if compare else [made]
            depth = [to_pixels(paint(from_pixels(made)))] if paint else []
            write_later(fetch(torch.cat(shown + depth, dim=2)), times)
            for _ in times:
                count += 1
                progress(count, driving.frames)
    return OutputInfo(Path(output), count, size, driving.rate)
