"""Work behind the page: uploads in, files and images out."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from ..dagan import DaGAN
from ..inference.animation import animate_to_file
from ..inference.animator import Animator
from ..inference.attention_figure import draw_heat_map
from ..inference.attention_maps import attention_maps
from ..inference.depth_maps import gray_painter, point_cloud
from ..inference.optimization import best_dtype, optimize
from ..inference.options import AnimateOptions
from ..inference.turntable import foreground
from ..media.glb import write_glb
from ..media.image import Image, to_uint8
from ..media.video import Progress, read_video
from .sessions import Session
from .uploads import Limits, Refusal, read_driving, read_photo

MEDIA = files("depthaware") / "assets"
PORTRAIT, CLIP = str(MEDIA / "portrait.png"), str(MEDIA / "driving.mp4")
RESULT = "generated-by-depthaware.mp4"
_VIDEO_SIDE, _LIVE_SIDE, _CLOUD_SIDE = 1280, 640, 384  # longest sides in pixels


class Stopped(Exception):
    """The visitor stopped the work, or left."""


class Controls(NamedTuple):
    """Controls of the motion, see `animate`."""

    strength: float = 1.0
    head: float = 1.0
    expression: float = 1.0
    freeze_background: bool = False


class Depth(NamedTuple):
    """Depth of a photo.

    Attributes:
        photo: uint8 (h, w, 3), at most 384 pixels long.
        gray: uint8 (h, w, 3), bright = near.
        cloud: .glb of the points of the face and what lies near it.
    """

    photo: Image
    gray: Image
    cloud: Path


class Studio:
    """Animation, depth and attention for many visitors at once, with one model.

    Args:
        model: on its device; used by one call of `depth` or `attention` at a time.
        limits: of the uploads.
    """

    def __init__(self, model: DaGAN, limits: Limits | None = None) -> None:
        self.model, self.limits = model.eval(), limits or Limits()
        self.fast = optimize(model, dtype=best_dtype(next(model.parameters()).device))
        self._reference, self._pose = _poses()

    def video(
        self,
        session: Session,
        photo: str | None,
        driving: str | None,
        *,
        compare: bool = False,
        controls: Controls | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Path:
        """Animate a photo with a video.

        Args:
            session: of the visitor, in whose folder the result lies until the next one.
            photo: path.
            driving: path of a video.
            compare: show photo, video and result side by side.
            controls: of the motion.
            progress: called with the numbers of frames done and in all.

        Raises:
            Refusal: if one of them cannot be used.
            Stopped: if `session.stopped` was set meanwhile; nothing is left.
        """
        session.stopped.clear()
        image, video = read_photo(photo, self.limits), read_driving(driving, self.limits)

        def shown(done: int, total: int) -> None:
            if session.stopped.is_set():
                raise Stopped
            progress(done, total)

        output, motion = session.new_folder("video") / RESULT, (controls or Controls())._asdict()
        with _together():
            return animate_to_file(
                self.fast, image, video, output, compare=compare, progress=shown, max_size=_VIDEO_SIDE, **motion
            ).path

    def live(self, session: Session, photo: str | None, frame: Image) -> Image:
        """Move a photo as the camera shows it now.

        Args:
            session: of the visitor, which keeps the motion from frame to frame.
            photo: path.
            frame: uint8 (H, W, 3) of the camera.

        Returns:
            uint8 (h, w, 3), the photo at most 640 pixels long.
        """
        with session.lock:
            if session.animator is None or session.photo != photo:
                options = AnimateOptions(max_size=_LIVE_SIDE)
                session.animator = Animator(self.fast, read_photo(photo, self.limits), options)
                session.photo = photo or ""
            return session.animator(frame)

    def restart(self, session: Session) -> None:
        """Take the next camera frame as the pose of the photo."""
        with session.lock:
            if session.animator:
                session.animator.restart()

    def depth(self, session: Session, photo: str | None) -> Depth:
        """Estimate the depth of a photo."""
        image = read_photo(photo, self.limits, face=False)
        if max(image.shape) > _CLOUD_SIDE:
            image = np.asarray(ImageOps.contain(Pillow.fromarray(image), (_CLOUD_SIDE, _CLOUD_SIDE)))
        gray = to_uint8(gray_painter(self.model, image)(image))[0]
        points = point_cloud(self.model, image)
        shown = foreground(points)
        cloud = session.new_folder("depth") / "points.glb"
        write_glb(cloud, points[shown], image.reshape(-1, 3)[shown])
        return Depth(image, gray, cloud)

    def attention(self, photo: str | None, x: float, y: float) -> tuple[Image, float]:
        """Draw what the generator attends to from a point of the photo, while it takes a pose of the bundled clip.

        Args:
            photo: path.
            x: of the point, in pixels from the left.
            y: from the top.

        Returns:
            The heat map over the square around the face, uint8 (S, S, 3), and the gate of `AttentionMaps`.
        """
        image = read_photo(photo, self.limits)
        try:
            maps = attention_maps(self.model, image, self._pose, [(x, y)], reference=self._reference)
        except ValueError as error:
            raise Refusal("Please click on the face or close to it: the model sees nothing else.") from error
        return draw_heat_map(maps, 0), maps.gate


@contextmanager
def _together() -> Iterator[None]:
    """Refuse factors of head and expression that differ where the photo does not tell one from the other."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("head, expression"):
            raise
        raise Refusal(
            "Head and expression cannot be told apart in this photo. Please set both sliders to the same value."
        ) from error


def _poses() -> tuple[Image, Image]:
    """First frame of the bundled clip, and one in which the head has turned."""
    first, *_, last = (frame.image for frame in islice(read_video(CLIP), 75))
    return first, last
