"""One face followed through a driving video: scenes, their reference frames, and the crops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from .face import Face, FaceDetector

if TYPE_CHECKING:  # reading images needs PyTorch
    from ..media.image import Image
    from .crop import Crop


class DrivingTrack(NamedTuple):
    """The followed face in each frame of a driving video.

    Attributes:
        faces: one per frame; None where it is not seen.
        scenes: number of the scene of each frame, rising from 0.
        references: for each scene, the index of the frame from which relative motion starts; None for a video without
            any face, which is one scene.
        crops: one per frame; the same for the whole scene unless the crop follows the face. None for a video without
            any face.
    """

    faces: tuple[Face | None, ...]
    scenes: tuple[int, ...]
    references: tuple[int | None, ...]
    crops: tuple[Crop | None, ...]


def track_driving(
    images: Iterable[Image],
    detector: FaceDetector,
    *,
    initial_frame: int | Literal["auto"] = "auto",
    scenes: bool = True,
    follow: bool = False,
    batch_size: int = 8,
) -> DrivingTrack:
    """Follow one face through a driving video; keeps detections, never frames.

    Args:
        images: uint8 (H, W, 3), read once, in order.
        detector: such as `BlazeFaceDetector()`.
        initial_frame: reference frame of its scene; "auto" takes the earliest in which a face is found that is neither
            blurred nor mid-blink. The face followed is the largest of the reference frame.
        scenes: find scene cuts; False makes the video one scene.
        follow: let the crop follow the face, instead of one that covers the travel of the head.
        batch_size: frames given to the detector at a time.

    Raises:
        ValueError: if there is no such initial frame, no face in it, or no frame at all.
    """
    raise NotImplementedError


class Tracked(NamedTuple):
    """The followed face in one frame of a live view, see `LiveTracker`.

    Attributes:
        face: None where it is not seen.
        scene: number of the scene, rising from 0.
        crop: None until the first face was seen.
        is_reference: True for one frame of each scene, from which relative motion starts.
    """

    face: Face | None
    scene: int
    crop: Crop | None
    is_reference: bool


class LiveTracker:
    """Follows one face from frame to frame, for a camera: only the past is known.

    Args:
        detector: such as `BlazeFaceDetector()`.
        scenes: find scene cuts.
        follow: let the crop follow the face; otherwise it stays in place until the head would leave it.
    """

    def __init__(self, detector: FaceDetector, *, scenes: bool = True, follow: bool = False) -> None:
        raise NotImplementedError

    def __call__(self, image: Image, time: float) -> Tracked:
        """Take the next frame, uint8 (H, W, 3), at its time in seconds."""
        raise NotImplementedError
