"""Source image + driving image -> image."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from ..media.image import AnyImage
from ..media.panels import write_figure
from ..media.video import OutputInfo
from .animation import animate
from .options import SupportsAnimation


def animate_to_image(
    model: SupportsAnimation, source_image: AnyImage, driving_image: AnyImage, output: str | Path, **options: Any
) -> OutputInfo:
    """Move a source image to the pose and expression of another image, and write the result as an image.

    Args:
        model: as in `animate`.
        source_image: as in `animate`.
        driving_image: any image; its motion is absolute, since it has no earlier pose.
        output: path of a .png, .jpg or .webp.
        options: those of `animate`, but for `mode` and `initial_frame`.
    """
    check_output(output, FIGURE_SUFFIXES)
    (frame,) = animate(model, source_image, [driving_image], **{**options, "mode": "absolute", "initial_frame": 0})
    write_figure(output, frame.image, generated=True)
    return OutputInfo(Path(output), 1, frame.image.shape[:2], Fraction(0))
