"""Work behind the page: checked uploads in, files and images out, refusals in plain words."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from ..dagan import DaGAN
from ..faces import BlazeFaceDetector
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
from ..media.still import open_still, read_image
from ..media.video import Progress, Video, read_video
from .sessions import Session

MEDIA = files("depthaware") / "assets"
PORTRAIT, CLIP = str(MEDIA / "portrait.png"), str(MEDIA / "driving.mp4")
RESULT = "generated-by-depthaware.mp4"
_VIDEO_SIDE, _LIVE_SIDE, _CLOUD_SIDE = 1280, 640, 384  # longest sides in pixels
_FACE_EVERY = 5  # frames between those that are searched for a first face


class Refusal(ValueError):
    """A sentence to the visitor: what is wrong with an upload, and what to do about it."""


class Stopped(Exception):
    """The visitor stopped the work, or left."""


@dataclass(frozen=True)
class Limits:
    """Largest uploads.

    Attributes:
        megabytes: of a file.
        seconds: of a video.
        video_pixels: of a frame of a video.
        photo_pixels: of a photo.
    """

    megabytes: int = 200
    seconds: float = 60
    video_pixels: int = 4096 * 2304
    photo_pixels: int = 100_000_000


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
        progress: Progress = lambda done, total: None,
    ) -> Path:
        """Animate a photo with a video.

        Args:
            session: of the visitor, in whose folder the result lies until the next one.
            photo: path.
            driving: path of a video.
            compare: show photo, video and result side by side.
            progress: called with the numbers of frames done and in all.

        Raises:
            Refusal: if one of them cannot be used.
            Stopped: if `session.stopped` was set meanwhile; nothing is left.
        """
        session.stopped.clear()
        image, video = self.read_photo(photo), self.read_driving(driving)

        def shown(done: int, total: int) -> None:
            if session.stopped.is_set():
                raise Stopped
            progress(done, total)

        output = session.new_folder("video") / RESULT
        return animate_to_file(
            self.fast, image, video, output, compare=compare, progress=shown, max_size=_VIDEO_SIDE
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
                session.animator = Animator(self.fast, self.read_photo(photo), options)
                session.photo = photo or ""
            return session.animator(frame)

    def restart(self, session: Session) -> None:
        """Take the next camera frame as the pose of the photo."""
        with session.lock:
            if session.animator:
                session.animator.restart()

    def depth(self, session: Session, photo: str | None) -> Depth:
        """Estimate the depth of a photo."""
        image = self.read_photo(photo, face=False)
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
        image = self.read_photo(photo)
        try:
            maps = attention_maps(self.model, image, self._pose, [(x, y)], reference=self._reference)
        except ValueError as error:
            raise Refusal("Please click on the face or close to it: the model sees nothing else.") from error
        return draw_heat_map(maps, 0), maps.gate

    def read_photo(self, path: str | None, *, face: bool = True) -> Image:
        """Read a photo within the limits, uint8 (H, W, 3), with a face if one is needed."""
        if not path:
            raise Refusal("Please choose a photo first.")
        with _plainly(path, "photo", "a JPEG or PNG"):
            self._check_size(path, "photo")
            with open_still(path) as still:
                width, height = still.size
            if width * height > self.limits.photo_pixels:
                most = self.limits.photo_pixels / 1e6
                raise Refusal(
                    f"This photo is too large: {width} × {height} pixels, at most {most:g} million are taken."
                )
            image = read_image(path)
        if face and not BlazeFaceDetector(all_sizes=True)([image])[0]:
            raise Refusal("No face was found in this photo. Please choose one in which a face is clearly visible.")
        return image

    def read_driving(self, path: str | None) -> Video:
        """Open a driving video within the limits, in which there is a face."""
        if not path:
            raise Refusal("Please choose a video first.")
        limits = self.limits
        with _plainly(path, "video", "an MP4"):
            self._check_size(path, "video")
            video = read_video(path)
            seconds = video.frames / float(video.rate)
            if seconds > limits.seconds:
                lasts, most = math.ceil(seconds), f"{limits.seconds:g}"
                raise Refusal(f"This video is too long: {lasts} seconds, at most {most} are taken. Please shorten it.")
            height, width = video.size
            if width * height > limits.video_pixels:
                raise Refusal(f"This video is too large: {width} × {height} pixels. Please choose one in 4K or less.")
            if not _shows_face(video):
                raise Refusal("No face was found in this video. Please choose one in which a face is clearly visible.")
        return video

    def _check_size(self, path: str, kind: str) -> None:
        megabytes = Path(path).stat().st_size / 1e6
        if megabytes > self.limits.megabytes:
            most = self.limits.megabytes
            raise Refusal(f"This {kind} is too large: {megabytes:.0f} MB, at most {most} are taken.")


def _shows_face(video: Video) -> bool:
    detector = BlazeFaceDetector()
    return any(detector([frame.image])[0] for frame in islice(video, 0, None, _FACE_EVERY))


@contextmanager
def _plainly(path: str, kind: str, example: str) -> Iterator[None]:
    """Raise the errors of reading a file as a `Refusal`."""
    try:
        yield
    except Refusal:
        raise
    except FileNotFoundError as error:
        raise Refusal(f"This {kind} is no longer here. Please choose it again.") from error
    except (ValueError, OSError, ImportError, MemoryError) as error:
        reason = str(error).replace(f"{path}: ", "").partition(", expected")[0]
        subject = "it " if reason.startswith(("is ", "has ")) else ""
        raise Refusal(
            f"This {kind} cannot be used: {subject}{reason}. Please choose another, such as {example}."
        ) from error


def _poses() -> tuple[Image, Image]:
    """First frame of the bundled clip, and one in which the head has turned."""
    first, *_, last = (frame.image for frame in islice(read_video(CLIP), 75))
    return first, last
