"""A camera moves a portrait: frames are dropped rather than shown late, and latency is measured."""

import time
from array import array
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..media.camera import Camera
from ..media.image import Image
from ..media.panels import resize_image
from ..media.screen import Show, Use
from ..media.threads import Newest
from ..media.video import Frame
from .animator import Animator

PATIENCE = 5.0  # seconds without an image after which a camera is given up
KEYS = "r new reference, m mirror, s next source, p paste back, q quit"


class LiveView:
    """The sources that a camera can move, and what the keys change.

    Args:
        animators: one for each source; the first is shown.
        mirror: move like a mirror image of the camera's.
        paste: paste the result into the source, otherwise show the generated square.

    Attributes:
        size: (height, width) of all frames, those of the first source; frames of other sizes are fitted into black.
        seen: True once a face was found.
    """

    def __init__(self, animators: Sequence[Animator], *, mirror: bool = False, paste: bool = True) -> None:
        self.animators, self.mirror, self.paste, self.seen = animators, mirror, paste, False
        self._index = 0
        first = animators[0].source
        side = first.squares.shape[-1]
        height, width = first.photo.shape[:2] if paste else (side, side)
        self.size = (height, width)
        self.animator.step(self.animator.source_image)  # the first work of a network takes longest
        self.animator.restart()

    @property
    def animator(self) -> Animator:
        """That of the source that is shown."""
        return self.animators[self._index]

    def __call__(self, image: Image, time: float) -> Image:
        """Generate the frame (*size, 3) under the next image of the camera, uint8 (H, W, 3), at its time in seconds."""
        squares = self.animator.squares(np.ascontiguousarray(image[:, ::-1]) if self.mirror else image, time)
        self.seen |= self.animator.found
        return _fitted(self.animator.source.output(squares) if self.paste else squares[0], self.size)

    def press(self, keys: str) -> None:
        """Do what keys stand for, see `KEYS`; others do nothing."""
        for key in keys.lower():
            if key == "p":
                self.paste = not self.paste
            if key == "m":
                self.mirror = not self.mirror
            if key == "s":
                self._index = (self._index + 1) % len(self.animators)
            if key in "rms":
                self.animator.restart()


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    height, width = image.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(image)
    scale = min(size[0] / height, size[1] / width)
    small = resize_image(image, (max(round(height * scale), 1), max(round(width * scale), 1)))
    top, left = (size[0] - small.shape[0]) // 2, (size[1] - small.shape[1]) // 2
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


class LiveReport(NamedTuple):
    """Summary of a live view.

    Attributes:
        frames: number of frames shown.
        dropped: number of images of the camera that were not.
        rate: frames shown per second.
        median: latency in seconds, from the arrival of an image to the end of its frame's showing.
        p99: that which 1 % of the frames exceed.
        trouble: the camera's, in one line; empty if the view was ended otherwise.
    """

    frames: int
    dropped: int
    rate: float
    median: float
    p99: float
    trouble: str = ""

    def __str__(self) -> str:
        latency = f"latency median {1000 * self.median:.0f} ms, p99 {1000 * self.p99:.0f} ms"
        return f"{self.frames} frames shown at {self.rate:.1f} fps, {self.dropped} dropped, {latency}"


class Meter:
    """Frame rate and latency."""

    def __init__(self) -> None:
        self._latencies, self._shown = array("f"), array("d")

    def add(self, taken: float) -> None:
        """Count a frame that is shown now, whose image was taken at that time of `time.monotonic`."""
        self._shown.append(time.monotonic())
        self._latencies.append(self._shown[-1] - taken)

    def report(self, last: int = 0, dropped: int = 0, trouble: str = "") -> LiveReport:
        """Summarize the last frames, all if 0."""
        shown, latencies = self._shown[-last:], self._latencies[-last:]
        span = shown[-1] - shown[0] if len(shown) > 1 else 0.0
        median, p99 = np.quantile(latencies, (0.5, 0.99)).tolist() if latencies else (0.0, 0.0)
        return LiveReport(len(shown), dropped, (len(shown) - 1) / span if span else 0.0, median, p99, trouble)


def run_live(
    view: LiveView,
    camera: Camera,
    show: Show,
    *,
    also: Sequence[Use] = (),
    seconds: float = float("inf"),
) -> LiveReport:
    """Show frame after frame until the camera ends, the key q, Ctrl-C, or after some seconds.

    Args:
        view: of the sources.
        camera: read in a thread of its own, which closes it.
        show: such as that of `open_window`.
        also: called with each frame after it was shown, its time counted from the first: recordings.
        seconds: after the first frame.
    """
    meter, trouble, keys, heard = Meter(), "", "", time.monotonic()
    start: Fraction | None = None
    shots = Newest(camera.shots)
    try:
        with shots:
            for shot in shots:
                if shot is None and time.monotonic() - heard > PATIENCE:
                    raise ValueError(f"camera {camera.name}: stopped, it sent no image for {PATIENCE:.0f} s")
                if shot is None:
                    continue
                start = shot.time if start is None else start
                image = view(shot.image, float(shot.time))
                keys = show(image, _title(view, meter))
                meter.add(shot.taken)
                for use in also:
                    use(Frame(image, shot.time - start))
                view.press(keys)
                heard = time.monotonic()
                if "q" in keys.lower() or shot.time - start >= seconds:
                    break
    except KeyboardInterrupt:
        pass  # the usual end without a window; recordings are kept
    except (ValueError, OSError) as error:
        if not str(error).startswith("camera "):
            raise
        trouble = str(error)
    return meter.report(dropped=shots.dropped, trouble=trouble)


def _title(view: LiveView, meter: Meter) -> str:
    recent = meter.report(last=25)
    state = "" if view.animator.found else "no face: "
    return f"depthaware: {state}{recent.rate:.0f} fps, {1000 * recent.median:.0f} ms"
