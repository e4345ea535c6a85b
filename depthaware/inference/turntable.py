"""Views of a point cloud from other sides, rendered without a GPU."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

from ..dagan import DaGAN
from ..depth import SelfSupDepthNet
from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from ..media.image import Image, to_uint8
from ..media.panels import row, write_figure
from ..media.video import Frame, OutputInfo, Progress, write_video
from .depth_maps import gray_painter, point_cloud

Points = npt.NDArray[np.float32]
_ANGLES = (-40, -20, 20, 40)  # of a figure, in degrees
_SWING, _FRAMES, _RATE = 40, 100, Fraction(25)  # of a video: degrees to either side, length, frames per second
_FIGURE_SIDE, _VIDEO_SIDE, _LONGEST = 256, 512, 512  # of views; longest side of the image that becomes points
_GRAY = 24  # level behind the points
# Views are drawn at twice their size and reduced, which smooths edges; they show somewhat more than the image does.
_OVERSAMPLING, _ZOOM = 2, 0.85
_DEEPEST = 2.0  # points farther than this multiple of the pivot are left out: what lies far behind a face


def turntable_to_file(
    model: DaGAN | SelfSupDepthNet,
    image: Image,
    output: str | Path,
    *,
    progress: Progress = lambda done, total: None,
) -> OutputInfo:
    """Show the point cloud of an image from several sides, beside the image and its disparity, or in a video.

    Args:
        model: any with a depth network.
        image: uint8 (H, W, 3).
        output: path of the file: .png, .jpg or .webp of four views, or .mp4 of a camera that swings to both sides.
        progress: called with the numbers of views done and in all.

    Reference:
        Hong et al. 2022, figure 9.
    """
    check_output(output, (*FIGURE_SUFFIXES, ".mp4"))
    small = np.asarray(ImageOps.contain(Pillow.fromarray(image), (_LONGEST, _LONGEST)))
    small = small if max(image.shape) > _LONGEST else image
    points, colors = point_cloud(model, small), small.reshape(-1, 3)
    if Path(output).suffix.lower() == ".mp4":
        angles = [_SWING * math.sin(2 * math.pi * i / _FRAMES) for i in range(_FRAMES)]
        with write_video(output, (_VIDEO_SIDE, _VIDEO_SIDE), _RATE) as write:
            for i, view in enumerate(render_views(points, colors, angles, side=_VIDEO_SIDE)):
                write(Frame(view, i / _RATE))
                progress(i + 1, _FRAMES)
        return OutputInfo(Path(output), _FRAMES, (_VIDEO_SIDE, _VIDEO_SIDE), _RATE)
    disparity = to_uint8(gray_painter(model, small)(small))[0]
    flat = [
        np.asarray(ImageOps.pad(Pillow.fromarray(x), (_FIGURE_SIDE,) * 2, color=(_GRAY,) * 3))
        for x in (small, disparity)
    ]
    views = render_views(points, colors, _ANGLES, side=_FIGURE_SIDE)
    figure = row([*flat, *views], ["image", "depth", *(f"{angle:+d}°" for angle in _ANGLES)])
    write_figure(output, figure)
    return OutputInfo(Path(output), 1, figure.shape[:2], Fraction(0))


def render_views(
    points: Points,
    colors: npt.NDArray[np.uint8],
    angles: Sequence[float],
    *,
    side: int,
    focal: float = 1.6,
) -> Iterator[Image]:
    """Render a point cloud from a camera that circles around the nearer half of it, one view for each angle.

    Points are squares, the nearer ones in front. At the angle 0 the camera is that of the image.

    Args:
        points: (N, 3) from `point_cloud`: x right, y up, z towards the viewer, the camera in the origin.
        colors: (N, 3), RGB.
        angles: in degrees, positive to the right.
        side: of the square views, in pixels.
        focal: focal length in units of the image's longer side; the default is that of `point_cloud`.

    Yields:
        uint8 (side, side, 3).
    """
    pivot, near = float(np.quantile(points[:, 2], 0.75)), foreground(points)
    spacing = _ZOOM * side * _OVERSAMPLING / math.sqrt(len(points))  # of neighbors, if they fill the view
    width = math.ceil(2 * spacing)
    points, colors = points[near], colors[near]
    for angle in angles:
        turned = _turn(points, math.radians(angle), pivot)
        image = _splat(turned, colors, focal * _ZOOM, side * _OVERSAMPLING, width)
        yield np.asarray(Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BOX))


def foreground(points: Points) -> npt.NDArray[np.bool_]:
    """Select, (N,), of the points (N, 3) of `point_cloud` those that do not lie far behind the nearer half."""
    return points[:, 2] > _DEEPEST * np.quantile(points[:, 2], 0.75)


def _turn(points: Points, angle: float, pivot: float) -> Points:
    """Rotate around the vertical axis through (0, 0, pivot)."""
    (x, y, z), cos, sin = points.T, math.cos(angle), math.sin(angle)
    return np.stack([cos * x - sin * (z - pivot), y, sin * x + cos * (z - pivot) + pivot], axis=1)


def _splat(points: Points, colors: npt.NDArray[np.uint8], focal: float, side: int, width: int) -> Image:
    """Draw squares of `width` pixels, far ones first, so that near ones cover them; `focal` in units of `side`."""
    order = np.argsort(points[:, 2])
    order = order[points[order, 2] < 0]  # in front of the camera
    (x, y, z), colors = points[order].T, colors[order]
    left, top = (np.rint((side - width) / 2 + focal * side * offset / -z) for offset in (x, -y))
    inside = (left >= 0) & (top >= 0) & (left <= side - width) & (top <= side - width)
    corners = (top[inside] * side + left[inside]).astype(np.int64)
    square = (np.arange(width)[:, None] * side + np.arange(width)).ravel()
    image = np.full((side * side, 4), _GRAY, np.uint8).view(np.uint32)[:, 0]  # a pixel a number, which is faster
    pixels = np.pad(colors[inside], ((0, 0), (0, 1))).view(np.uint32)
    image[corners[:, None] + square] = pixels
    return np.ascontiguousarray(image.view(np.uint8).reshape(side, side, 4)[..., :3])
