"""Driving frames on their way into the model: followed, cropped, in batches."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..faces.crop import Crop, whole_image
from ..faces.face import Face, FaceDetector
from ..faces.pose import pose_warning
from ..faces.tracking import DrivingTrack, LiveTracker, track_driving
from ..keypoints import Keypoints
from ..media.image import Fit, Image, fit_square, to_tensor
from ..media.threads import AHEAD, prefetch
from ..media.video import Frame
from .inputs import opened, warn
from .options import AnimateOptions, Driving
from .source import to_array

T = TypeVar("T")


class DrivingFrame(NamedTuple):
    """A driving frame as the model takes it.

    Attributes:
        image: (1, 3, S, S) in [0, 1]; (0, 3, S, S) from a motion template.
        time: in seconds after the start.
        scene: its number.
        found: False if a face was searched and not found.
        is_reference: True if the motion of the scene starts from this frame.
        keypoints: (1, N, 2) on the model's device, if they are known already.
    """

    image: Tensor
    time: Fraction
    scene: int = 0
    found: bool = True
    is_reference: bool = False
    keypoints: Keypoints | None = None


Fitter = Callable[[Image | Tensor, Crop | None], Tensor]
"""Makes the model's input (1, 3, S, S) of an image and the square of it that holds the face, if known."""


def fitter(size: int, fit: Fit | Literal["face"], device: torch.device) -> Fitter:
    """Make the function that turns images of any shape into the model's inputs."""

    def make(image: Image | Tensor, crop: Crop | None) -> Tensor:
        if crop is None:
            return fit_square(image, size, "crop" if fit == "face" else fit, device)
        return to_tensor(crop.read(to_array(image), size), device)

    return make


def timed(driving: Driving) -> Iterator[tuple[Image | Tensor, Fraction]]:
    """Read images with their times; those that have none are taken as 25 a second."""
    for index, item in enumerate(driving):
        yield (item.image, item.time) if isinstance(item, Frame) else (opened(item), Fraction(index, 25))


def follow_face(
    driving: Driving, options: AnimateOptions, detector: FaceDetector, source_faces: Sequence[Face]
) -> DrivingTrack | None:
    """Find and follow the face of a driving video that can be read again; warn and return None if there is none."""
    initial = "auto" if options.initial_frame == "best" else options.initial_frame
    with prefetch((to_array(image) for image, _ in timed(driving)), AHEAD) as images:
        track = track_driving(
            images,
            detector,
            initial_frame=initial,
            scenes=options.scenes,
            follow=options.follow,
            batch_size=options.batch_size,
            rate=float(getattr(driving, "rate", 25)),
        )
    if any(face is not None for face in track.faces):
        if source_faces and options.mode == "relative" and (warning := pose_warning(source_faces[0], track)):
            warn(warning)
        return track
    taken = "its central square" if options.fit == "face" else "every frame"
    warn(f"no face found in the driving video: {taken} is taken")
    return None


def tracked_frames(
    driving: Driving, track: DrivingTrack | None, fit: Fitter, options: AnimateOptions
) -> Iterator[DrivingFrame]:
    """Read the frames of a driving video, cropped as they were tracked."""
    if track is None:
        for index, (image, time) in enumerate(timed(driving)):
            yield DrivingFrame(fit(image, None), time, is_reference=index == 0)
        return
    tracked = zip(timed(driving), track.crops, track.scenes, track.faces, strict=True)
    for (image, time), crop, scene, face in tracked:
        yield DrivingFrame(fit(image, _square(crop, image, options)), time, scene, face is not None)


def reference_candidates(options: AnimateOptions, track: DrivingTrack | None) -> Sequence[int]:
    """Indices of the driving frames among which references are chosen, rising; none for the first frame."""
    if options.initial_frame == "best":
        return (
            range(sys.maxsize - 1) if track is None else [i for i, face in enumerate(track.faces) if face is not None]
        )
    if track is not None:
        return [index for index in track.references if index is not None]
    return [options.initial_frame] if isinstance(options.initial_frame, int) and options.initial_frame else []


class LiveFrames:
    """Follows the face from frame to frame, for images that can be read only once.

    Args:
        fit: makes the inputs of the model.
        options: of which `follow` and `scenes` are read.
        detector: of faces.
    """

    def __init__(self, fit: Fitter, options: AnimateOptions, detector: FaceDetector) -> None:
        self.fit, self.options = fit, options
        self.tracker = LiveTracker(detector, scenes=options.scenes, follow=options.follow)

    def read(self, driving: Driving) -> Iterator[DrivingFrame]:
        """Read images that can be read only once; warn at the end if none had a face."""
        seen = False
        for image, time in timed(driving):
            frame = self(image, time)
            seen |= frame.found
            yield frame
        if not seen:
            warn("no face found in the driving video: the source stays at rest")

    def __call__(self, image: Image | Tensor, time: Fraction) -> DrivingFrame:
        """Take the next image."""
        face, scene, crop, is_reference = self.tracker(to_array(image), float(time))
        square = _square(crop, image, self.options)
        return DrivingFrame(self.fit(image, square), time, scene, face is not None, is_reference)


def _square(crop: Crop | None, image: Image | Tensor, options: AnimateOptions) -> Crop | None:
    if crop is None or options.fit != "face":
        return None
    return crop if options.follow else whole_image(crop, to_array(image).shape)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
