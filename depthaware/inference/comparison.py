"""Comparison of models: rows of sources and driving frames, and a column for each model."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, tee
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from ..media.atomic import check_output
from ..media.image import Fit, Image, to_uint8
from ..media.panels import column, resize_image, row
from ..media.video import Frame, OutputInfo, Progress, Video, write_video
from .animation import AnimatedFrame, animated_frames
from .animator import Animator
from .depth_maps import gray_painter
from .driving import in_batches
from .options import AnimateOptions, Mode, SupportsAnimation
from .source import Source

_SIDE = 160  # smallest side of a panel in pixels, so that its caption can be read


class Pair(NamedTuple):
    """A source and what drives it.

    Attributes:
        source: uint8 (H, W, 3).
        driving: uint8 (H, W, 3), or a video from `read_video`.
    """

    source: Image
    driving: Image | Video


def compare(
    models: Mapping[str, SupportsAnimation],
    pairs: Sequence[Pair],
    *,
    frames: Sequence[int] = (),
    mode: Mode = "relative",
    fit: Fit | Literal["face"] = "face",
    depth: bool = False,
) -> Image:
    """Draw a sheet with a row for each pair and frame: source, driving frame, and the result of each model.

    Args:
        models: by the name above their column; on their device, all of one image size.
        pairs: of images, or of an image and a video.
        frames: numbers of the frames of each video, from 0; the middle one if empty.
        mode: of the motion under a video, see `animate`; relative is from the first frame with a good face, or from the
            first of all if `fit` looks for none. The motion of an image is
            absolute, since it has no earlier pose.
        fit: how images become square, as in `animate`.
        depth: show the disparity of source and driving frame too, of the first model that has a depth network; the
            nearest point of each image is white.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: if the models differ in image size, a video has no such frame, or no model has depth to show.

    Reference:
        Hong et al. 2022, figures 6 to 8 and 12 to 14.
    """
    side = _one_size(models)
    images = []
    for pair in pairs:
        if isinstance(pair.driving, Video):
            images += _chosen(models, pair, list(frames) or [pair.driving.frames // 2], mode, fit, depth)
        else:
            images += [panels for _, panels in _rows(models, pair.source, [pair.driving], "absolute", fit, depth)]
    return _draw(images, _captions(models, depth), max(side, _SIDE))


def compare_to_file(
    models: Mapping[str, SupportsAnimation],
    pairs: Sequence[Pair],
    output: str | Path,
    *,
    mode: Mode = "relative",
    fit: Fit | Literal["face"] = "face",
    depth: bool = False,
    progress: Progress = lambda done, total: None,
) -> OutputInfo:
    """Write the sheet of `compare` as an mp4, which ends with the shortest driving video.

    Args:
        models: as of `compare`.
        pairs: of an image and a video, all videos of one frame rate.
        output: path of the mp4.
        mode: as of `animate`.
        fit: as of `animate`.
        depth: as of `compare`.
        progress: called with the numbers of frames done and in all.

    Raises:
        ValueError: as `compare`, and if an image drives, or the frame rates differ.
    """
    side, videos = max(_one_size(models), _SIDE), [pair.driving for pair in pairs if isinstance(pair.driving, Video)]
    check_output(output, (".mp4",), others=[video.path for video in videos])
    if len(videos) < len(pairs):
        raise ValueError(
            f"{output}: expected driving videos for a video, got an image; for a sheet choose .png or .jpg"
        )
    if len(rates := {video.rate for video in videos}) > 1:
        raise ValueError(f"{output}: expected driving videos of one frame rate, got {sorted(map(float, rates))}")
    rows = [_rows(models, pair.source, pair.driving, mode, fit, depth) for pair in pairs]
    sheets = ((row[0][0], [panels for _, panels in row]) for row in zip(*rows, strict=False))
    captions, total, first = _captions(models, depth), min(video.frames for video in videos), videos[0]
    size = _draw([[np.zeros((side, side, 3), np.uint8)] * len(captions)] * len(pairs), captions, side).shape[:2]
    with write_video(output, size, first.rate, first.time_base, generated=True) as write:
        for count, (time, images) in enumerate(sheets, start=1):
            write(Frame(_draw(images, captions, side), time))
            progress(count, total)
    return OutputInfo(Path(output), count, size, first.rate)


def _one_size(models: Mapping[str, SupportsAnimation]) -> int:
    sizes = {name: model.image_size for name, model in models.items()}
    if len(set(sizes.values())) != 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"models: expected one image size, got {found or 'no model'}")
    return next(iter(sizes.values()))


def _chosen(
    models: Mapping[str, SupportsAnimation], pair: Pair, wanted: list[int], mode: Mode, fit: Any, depth: bool
) -> list[list[Image]]:
    """Panels of some frames of a video."""
    kept, video = sorted({0, *wanted}), cast(Video, pair.driving)  # motion may start from the first
    if kept[-1] >= video.frames:
        raise ValueError(f"{video.path}: expected frames from 0 to {video.frames - 1}, got {kept[-1]}")
    rows = zip(kept, _rows(models, pair.source, video, mode, fit, depth, kept), strict=False)
    found = {index: panels for index, (_, panels) in rows}
    for index in wanted:
        if index not in found:
            raise ValueError(f"{video.path}: expected frames from 0 to {video.frames - 1}, got {index}")
    return [found[index] for index in wanted]


def _rows(
    models: Mapping[str, SupportsAnimation],
    source: Image,
    driving: Any,
    mode: Mode,
    fit: Any,
    depth: bool,
    kept: Sequence[int] | None = None,
) -> Iterator[tuple[Fraction, list[Image]]]:
    """Time and panels of each driving frame, or of those kept; the video is read once for all models, but to track."""
    square = to_uint8(Source(source, _one_size(models), AnimateOptions(fit=fit)).squares[:1])[0]
    initial: Any = "auto" if fit == "face" else 0
    options = AnimateOptions(mode, fit=fit, initial_frame=initial, scenes=False, paste=False)
    streams = [driving] * len(models) if fit == "face" else tee(driving, len(models))
    results = [
        _animated(Animator(model, source, options), stream, kept)
        for model, stream in zip(models.values(), streams, strict=True)
    ]
    disparity = _disparity(models) if depth else None
    shown = [disparity(square)] if disparity else []
    for made in zip(*results, strict=True):
        driven = cast(Image, made[0].driving)
        extra = [*shown, disparity(driven)] if disparity else []
        yield made[0].time, [square, driven, *extra, *(frame.image for frame in made)]


def _animated(animator: Animator, driving: Any, kept: Sequence[int] | None) -> Iterator[AnimatedFrame]:
    frames = (frame for batch in animator.read(driving) for frame in batch)
    if kept is not None:
        frames = (frame for index, frame in enumerate(islice(frames, max(kept) + 1)) if index in kept)
    for batch in in_batches(frames, animator.options.batch_size):
        yield from animated_frames(animator, batch)


def _disparity(models: Mapping[str, SupportsAnimation]) -> Any:
    """Function that paints the disparity of an image, each in its own range."""
    model: Any = next((model for model in models.values() if getattr(model, "depth_net", None) is not None), None)
    if model is None:
        raise ValueError(f"depth: expected a model with a depth network, got {', '.join(models)}")
    return lambda image: to_uint8(gray_painter(model, image)(image))[0]


def _captions(models: Mapping[str, SupportsAnimation], depth: bool) -> list[str]:
    return ["source", "driving", *(["source depth", "driving depth"] if depth else []), *models]


def _draw(rows: Sequence[Sequence[Image]], captions: Sequence[str], side: int) -> Image:
    panels = [[resize_image(image, (side, side)) for image in images] for images in rows]
    first = row(panels[0], captions, font_size=max(13, side // 16))
    return column([first, *(row(images) for images in panels[1:])])
