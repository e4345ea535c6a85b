"""Source image + stream of driving frames -> stream of frames, or a video file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..dagan import DaGAN
from ..media.atomic import check_output, check_video_output
from ..media.formats import SILENT
from ..media.image import AnyImage, Fit, Image, fetch, from_pixels, to_pixels
from ..media.threads import AHEAD, background, prefetch
from ..media.video import Frame, OutputInfo, Progress, Video, write_video
from .animator import Animator
from .depth_maps import gray_painter
from .driving import DrivingFrame
from .layout import Panels
from .options import AnimateOptions, Driving, Mode, SupportsAnimation
from .template import MotionTemplate, open_driving

_LONG = 500  # frames in which to look for faces takes long enough to be told


@dataclass(frozen=True, eq=False)
class AnimatedFrame(Frame):
    """A generated frame.

    Attributes:
        image: uint8 (H, W, 3), RGB: the source image, moving; (S, S, 3) if it is not pasted back.
        time: that of its driving frame, in seconds after the start.
        driving: model input made of the driving frame, uint8 (S, S, 3); None from a motion template.
    """

    driving: Image | None


def animate(
    model: SupportsAnimation,
    source_image: AnyImage,
    driving: str | Path | Driving,
    *,
    mode: Mode = "relative",
    adaptive_scale: bool = True,
    initial_frame: int | Literal["auto", "best"] = "auto",
    fit: Fit | Literal["face"] = "face",
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
    face: int | Literal["largest", "all"] = "largest",
    follow: bool = False,
    paste: bool = True,
    max_size: int = 1920,
    scenes: bool = True,
    smooth: bool = False,
    strength: float = 1.0,
    head: float = 1.0,
    expression: float = 1.0,
    freeze_background: bool = False,
) -> Iterator[AnimatedFrame]:
    """Animate a source image; lazily yields one frame per driving frame.

    Args:
        model: on the target device.
        source_image: path, image of Pillow, uint8 (H, W, 3), or floats (3, H, W) in [0, 1], see `load_image`.
        driving: path of a video, folder or pattern; `read_video("clip.mp4")`; a `MotionTemplate` or the path of one; or
            any images like the source's, taken as 25 a second. What can be read only once, such as a camera, is
            followed frame by frame.
        mode: "relative" adds the driving motion since the initial frame to the pose and shape of the source's own face;
            "absolute" takes the driving key points as they are.
        adaptive_scale: scale relative motion by the size of the source's face over that of the driving face.
        initial_frame: driving frame with the pose of the source. "auto" takes the earliest with a face that is neither
            blurred nor mid-blink, "best" searches the pose nearest to the source's, an index is that frame.
        fit: "face" crops both around the face; a warning says so if there is none, and the central square is taken.
            "crop", "pad" and "stretch" look for no face, see `fit_square`.
        batch_size: frames at a time; the result does not depend on it.
        dtype: of the generator's work (automatic mixed precision); key points and motion are always float32.
        face: of the source, if there are several: the "largest", "all" of them, or an index from left to right. Of
            those in the driving video the largest of the initial frame is followed.
        follow: let the crop of the driving video follow the head; otherwise it covers the travel of the head.
        paste: paste the result into the source image; otherwise it is the generated square, of the first face.
        max_size: longer side of the output in pixels; larger source images are shrunk.
        scenes: start anew from a reference of its own at each cut of the driving video.
        smooth: filter the key points over time.
        strength: factor of all motion, 0 to 3; 0 leaves the source at rest.
        head: factor of the head's motion, 0 to 3, see `scale_motion`.
        expression: factor of the expression, 0 to 3.
        freeze_background: show the source where the motion network sees background.

    Returns:
        Frames as large as the source image, or of S x S pixels with S = model.image_size, each with its time and its
        driving frame.

    Raises:
        ValueError: if an option or the shape of an image is none of the above, or there is no such initial frame.
    """
    options = AnimateOptions(
        mode,
        adaptive_scale,
        initial_frame,
        fit,
        batch_size,
        dtype,
        face,
        follow,
        paste,
        max_size,
        scenes,
        smooth,
        strength,
        head,
        expression,
        freeze_background,
    )
    driving = open_driving(driving)
    animator = Animator(model, source_image, options)
    batches = animator.read(driving)
    return (frame for batch in batches for frame in animated_frames(animator, batch))


def animated_frames(animator: Animator, batch: Sequence[DrivingFrame]) -> Iterator[AnimatedFrame]:
    """Generate the output frames of consecutive frames of `Animator.read`."""
    tiles = _tiles([animator.animate(batch), torch.cat([frame.image for frame in batch])], len(batch))
    faces = len(animator.source.squares)
    for squares, frame in zip(fetch(tiles)(), batch, strict=True):  # one copy from the device
        driving = squares[faces] if len(squares) > faces else None
        yield AnimatedFrame(animator.source.output(list(squares[:faces])), frame.time, driving)


def _tiles(images: Sequence[Tensor], count: int) -> Tensor:
    """Stack squares (count n, 3, S, S), n for each frame, to pixels (count, sum of n, S, S, 3)."""
    return torch.cat([to_pixels(squares).unflatten(0, (count, len(squares) // count)) for squares in images], dim=1)


def animate_to_file(
    model: SupportsAnimation,
    source_image: AnyImage,
    driving: str | Path | Video | MotionTemplate,
    output: str | Path,
    *,
    compare: bool = False,
    save_depth: str | Path | None = None,
    audio: bool | str | Path = True,
    codec: str | None = None,
    quality: int | None = None,
    size: int | tuple[int, int] | None = None,
    mark: bool = False,
    progress: Progress = lambda done, total: None,
    notes: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> OutputInfo:
    """`animate` into a file with the driving video's frame times and sound; reads and writes in threads of their own.

    Args:
        model: as in `animate`.
        source_image: as in `animate`.
        driving: path, or from `read_video` or `record_motion`.
        output: path of a video, or pattern of images, see `write_video`.
        compare: show source, driving frame and result side by side.
        save_depth: path of a second mp4 with the disparity of the generated square, bright = near.
        audio: copy the driving video's sound, or that of a file, which ends with the video; False for none. GIF, WebP
            and images have none.
        codec: of the output, see `write_video`.
        quality: of the output, 1 to 100, see `write_video`.
        size: (height, width) of the output, with black bars where its shape differs, or its longer side.
        mark: write "AI-generated" into the lower left corner.
        progress: called with the numbers of frames done and in all.
        notes: called with lines on what was chosen.
        options: those of `animate`.
    """
    driving = open_driving(driving)
    others = [driving.path] if driving.path else []
    check_video_output(output, others, codec, quality)
    if save_depth:
        check_output(save_depth, (".mp4",), (*others, output))
    if compare and isinstance(driving, MotionTemplate):
        raise ValueError("compare: shows the driving frames, of which a motion template has none")
    animator = Animator(model, source_image, AnimateOptions(**options))
    if animator.options.tracks and isinstance(driving, Video) and driving.frames > _LONG:
        notes(f"looking for faces in {driving.frames} driving frames")
    batches = animator.read(driving)
    for line in _choices(animator):
        notes(line)
    panels = Panels(animator.source, compare, size, mark)
    paint = gray_painter(cast(DaGAN, model), from_pixels(to_pixels(animator.source_image))) if save_depth else None
    side, faces, count = model.image_size, len(animator.source.squares), 0
    with ExitStack() as stack:
        if save_depth:
            write_depth = stack.enter_context(write_video(save_depth, (side, side), driving.rate, driving.time_base))
        kept = {"codec": codec, "quality": quality, "generated": True, **_sound(driving, output, audio)}
        write = stack.enter_context(write_video(output, panels.size, driving.rate, driving.time_base, **kept))

        def save(fetched: Callable[[], Image], batch: Sequence[DrivingFrame]) -> None:
            for squares, frame in zip(fetched(), batch, strict=True):
                if save_depth:
                    write_depth(Frame(squares[-1], frame.time))
                write(Frame(panels(list(squares[:faces]), squares[faces:]), frame.time))

        write_later = stack.enter_context(background(save, AHEAD))
        for batch in stack.enter_context(prefetch(batches, AHEAD)):
            made, shown = animator.animate(batch), torch.cat([frame.image for frame in batch])
            depth = [paint(from_pixels(to_pixels(made[:: len(made) // len(batch)])))] if paint else []
            write_later(fetch(_tiles([made, shown, *depth], len(batch))), batch)
            for _ in batch:
                count += 1
                progress(count, driving.frames)
    return OutputInfo(Path(output), count, panels.size, driving.rate)


def _sound(driving: Video | MotionTemplate, output: str | Path, audio: bool | str | Path) -> dict[str, Any]:
    """Options of `write_video`."""
    if Path(output).suffix.lower() in SILENT:
        return {}
    if not isinstance(audio, bool):
        return {"audio": audio, "audio_end": driving.frames / driving.rate}
    return {"audio": driving.path if audio and driving.audio else None}


def _choices(animator: Animator) -> Iterator[str]:
    """Lines on what was chosen."""
    if animator.initial_frames and animator.options.mode == "relative":
        chosen = ", ".join(map(str, animator.initial_frames.values()))
        yield f"initial frame: {chosen}"
