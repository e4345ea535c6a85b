"""Frames played in a notebook."""

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from .._optional import require
from .frame import Frame
from .image import Image
from .writing import write_video


def show(frames: Iterable[Frame | Image], *, fps: float = 25) -> None:
    """Play frames in a notebook, in a loop; the video becomes part of the notebook.

    Args:
        frames: those of `animate` or `read_video`, each shown at its time, or images, uint8 (H, W, 3) of one size.
        fps: of images, frames per second.

    Raises:
        ImportError: if IPython is not installed.
        ValueError: if there are no frames, or one is no such image.
    """
    display = require("IPython.display", "notebook")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps: expected more than 0 and at most 1000, got {fps}")
    rate = Fraction(fps).limit_denominator(1001)
    timed = (x if isinstance(x, Frame) else Frame(x, index / rate) for index, x in enumerate(frames))
    first = next(timed, None)
    if first is None:
        raise ValueError("frames: expected at least one, got none")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shown.mp4")
        with write_video(path, first.image.shape[:2], rate, Fraction(1, 90_000)) as write:
            write(Frame(first.image, Fraction(0)))
            for frame in timed:
                write(Frame(frame.image, frame.time - first.time))
        content = path.read_bytes()
    video = display.Video(content, embed=True, mimetype="video/mp4", html_attributes="controls loop autoplay muted")
    display.display(video)
