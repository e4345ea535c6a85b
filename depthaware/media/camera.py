"""Cameras, and video files that are played in real time in their place."""

import errno
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import av

from .color import rgb_images, square_size
from .devices import input_device
from .image import Image
from .video import Video, read_video

TICK = Fraction(1, 1000)
_OPTIONS = {"dshow": {"rtbufsize": "64M"}, "avfoundation": {"pixel_format": "uyvy422"}}
_REASONS = {
    errno.EBUSY: "is in use by another program",
    errno.EACCES: "may not be opened by this user",
    errno.ENOTTY: "is a device, but no camera",
    errno.EINVAL: "is no camera, or does not offer this size and rate",
}


class Shot(NamedTuple):
    """An image of a camera.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        time: in seconds after the first, rising.
        taken: when it arrived here, or was due in a video file; in seconds of `time.monotonic`.
    """

    image: Image
    time: Fraction
    taken: float


class Camera(NamedTuple):
    """An open camera.

    Attributes:
        name: as it was given.
        rate: frames per second, nominally.
        time_base: all times are multiples of it, in seconds.
        shots: its images from now on, to be read by one thread; closing the generator closes the camera.
    """

    name: str
    rate: Fraction
    time_base: Fraction
    shots: Iterator[Shot]


def open_camera(name: str, *, size: tuple[int, int] = (480, 640), rate: int = 30) -> Camera:
    """Open a camera through FFmpeg, or a video in its place, which ends.

    Args:
        name: see `input_device`; or a video file, a folder or pattern of images.
        size: (height, width) asked of a camera, which may deliver the nearest that it has.
        rate: frames per second asked of a camera.

    Raises:
        ValueError: if the camera is missing, busy or no camera.
    """
    device = input_device(name)
    if device is None:
        video = read_video(name)
        return Camera(name, video.rate, video.time_base, _in_real_time(video))
    options = {"video_size": f"{size[1]}x{size[0]}", "framerate": str(rate)} | _OPTIONS.get(device[0], {})
    try:
        container = av.open(_address(name, *device), format=device[0], options=options)
    except (av.FFmpegError, OSError) as error:
        reason = _REASONS.get(error.errno or 0, "cannot be opened")
        raise ValueError(f"camera {name}: {reason} ({error.strerror})") from error
    found = container.streams.video[0].average_rate if container.streams.video else None
    return Camera(name, found or Fraction(rate), TICK, _read(name, container))


def _address(name: str, format: str, device: str) -> str:
    if format != "dshow" or device.startswith("video="):
        return device
    known = [f"video={found.name}" for found in av.enumerate_input_devices(format) if "video" in found.media_types]
    if int(device) >= len(known):
        raise ValueError(f"camera {name}: expected a number below {len(known)}, the number of cameras")
    return known[int(device)]


def _read(name: str, container: av.container.InputContainer) -> Iterator[Shot]:
    start, last = time.monotonic(), -TICK
    try:
        with container:
            arrived = start

            def frames() -> Iterator[av.VideoFrame]:
                nonlocal arrived
                for packet in _packets(container):
                    arrived = time.monotonic()
                    yield from packet.decode()

            for image, _ in rgb_images(frames(), square_size(container.streams.video[0])):
                last = max(Fraction(round((arrived - start) / TICK)) * TICK, last + TICK)
                yield Shot(image, last, arrived)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"camera {name}: stopped after {float(last):.1f} s ({error.strerror})") from error
    raise ValueError(f"camera {name}: stopped after {float(last):.1f} s (no more images)")


def _packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """Read packets; macOS says "try again" while there is no new image."""
    while True:
        try:
            yield from container.demux(video=0)
            return
        except av.BlockingIOError:
            time.sleep(0.002)


def _in_real_time(video: Video) -> Iterator[Shot]:
    start = time.monotonic()
    for frame in video:
        due = start + float(frame.time)
        time.sleep(max(due - time.monotonic(), 0))
        yield Shot(frame.image, frame.time, due)
