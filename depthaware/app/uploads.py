"""Uploads of visitors: checked, opened, refused in plain words."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..faces import BlazeFaceDetector
from ..media.image import Image
from ..media.still import open_still, read_image
from ..media.video import Video, read_video

_FACE_EVERY = 5  # frames between those that are searched for a first face


class Refusal(ValueError):
    """A sentence to the visitor: what is wrong with an upload, and what to do about it."""


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


def read_photo(path: str | None, limits: Limits, *, face: bool = True) -> Image:
    """Read a photo within the limits, uint8 (H, W, 3), with a face if one is needed."""
    if not path:
        raise Refusal("Please choose a photo first.")
    with _plainly(path, "photo", "a JPEG or PNG"):
        _check_size(path, "photo", limits)
        with open_still(path) as still:
            width, height = still.size
        if width * height > limits.photo_pixels:
            most = limits.photo_pixels / 1e6
            raise Refusal(f"This photo is too large: {width} × {height} pixels, at most {most:g} million are taken.")
        image = read_image(path)
    if face and not BlazeFaceDetector(all_sizes=True)([image])[0]:
        raise Refusal("No face was found in this photo. Please choose one in which a face is clearly visible.")
    return image


def read_driving(path: str | None, limits: Limits) -> Video:
    """Open a driving video within the limits, in which there is a face."""
    if not path:
        raise Refusal("Please choose a video first.")
    with _plainly(path, "video", "an MP4"):
        _check_size(path, "video", limits)
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


def _check_size(path: str, kind: str, limits: Limits) -> None:
    megabytes = Path(path).stat().st_size / 1e6
    if megabytes > limits.megabytes:
        most = limits.megabytes
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
