"""One face followed through a driving video: scenes, their reference frames, and the crops."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from .face import Face, FaceDetector
from .following import Follower, Sight, follow_face, see
from .framing import LiveCrop, moving_crops, scene_crop
from .quality import Floats, grade
from .scenes import Look, SceneCuts

if TYPE_CHECKING:  # reading images needs PyTorch
    from ..media.image import Image
    from .crop import Crop

STEADY = 2  # frames beside the reference frame in which its face must be found, too
DARK = 0.6  # of the scene's median brightness of the face, below which it is not seen
PATIENCE = 25  # frames with a face of which a live view takes the last one if none was good
TOGETHER, BYTES = 16, 2**24  # frames and their size up to which they are searched together at least, which is faster


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
    rate: float = 25,
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
        rate: frames per second, for the smoothness of a crop that follows.
        batch_size: frames given to the detector at a time; of small ones up to 16 are.

    Raises:
        ValueError: if there is no such initial frame, no face in it, or no frame at all.
    """
    sights, numbers = _observe(images, detector, scenes, batch_size)
    if initial_frame != "auto":
        _check_initial(initial_frame, sights)
    faces: list[Face | None] = []
    crops: list[Crop | None] = []
    references: list[int | None] = []
    for _, group in groupby(range(len(sights)), key=numbers.__getitem__):
        frames = list(group)
        scene = sights[frames[0] : frames[-1] + 1]
        reference = (
            initial_frame - frames[0]
            if initial_frame in frames and sights[initial_frame].faces
            else reference_frame(scene)
        )
        followed = [None] * len(scene) if reference is None else _lit(follow_face(scene, reference), scene, reference)
        faces += followed
        crops += moving_crops(followed, rate) if follow else [scene_crop(followed)] * len(scene)
        references.append(None if reference is None else reference + frames[0])
    return DrivingTrack(tuple(faces), tuple(numbers), tuple(references), tuple(crops))


def _lit(faces: list[Face | None], sights: Sequence[Sight], reference: int) -> list[Face | None]:
    """Leave out faces in frames much darker than the rest, as in a fade: their key points would be wrong."""
    light = np.array([sight.measured[2] for sight in sights])
    dark = light < DARK * np.median(light[light > 0])
    dark[reference] = False
    return [None if hidden else face for face, hidden in zip(faces, dark, strict=True)]


def _check_initial(index: int, sights: Sequence[Sight]) -> None:
    if not 0 <= index < len(sights):
        known = f"one of the driving frames, 0 to {len(sights) - 1}"
        raise ValueError(f"initial_frame: expected 'auto', 'best' or {known}, got {index}")
    if not sights[index].faces and any(sight.faces for sight in sights):
        raise ValueError(f"initial_frame: expected a frame with a face, found none in frame {index}")


def _observe(
    images: Iterable[Image], detector: FaceDetector, scenes: bool, batch_size: int
) -> tuple[list[Sight], list[int]]:
    """Sights of all frames, and the numbers of their scenes."""
    sights: list[Sight] = []
    starts: list[int] = []  # of all scenes but the first, and of one that waits to be confirmed
    cuts, waiting = SceneCuts(), False
    for sight, look in _sights(images, detector, batch_size):
        state = cuts(look) if scenes else "same"
        if state == "waiting" and not waiting:
            starts.append(len(sights))
        if state == "same" and waiting:
            starts.pop()
        waiting = state == "waiting"
        sights.append(sight)
    if not sights:
        raise ValueError("driving video: expected at least one frame, got none")
    return sights, [bisect_right(starts, index) for index in range(len(sights))]


def _sights(images: Iterable[Image], detector: FaceDetector, batch_size: int) -> Iterator[tuple[Sight, Look | None]]:
    stream = iter(images)
    for image in stream:
        count = max(batch_size, min(TOGETHER, BYTES // image.nbytes))
        batch = [image, *islice(stream, count - 1)]
        yield from map(see, batch, detector(batch))


def reference_frame(sights: Sequence[Sight]) -> int | None:
    """Choose the frame of a scene from which relative motion starts.

    It is the earliest whose largest face is good (see `grade`: sharp, eyes open, not dark) and is still there two
    frames later; if there is none, the one that comes closest.

    Returns:
        Its index; None for a scene without a face.
    """
    seen = [index for index, sight in enumerate(sights) if sight.faces]
    if not seen:
        return None
    grades = dict(zip(seen, grade(np.array([sights[index].measured for index in seen])), strict=True))
    steady = [index for index in seen if _stays(sights[index : index + 1 + STEADY])] or seen
    return next((index for index in steady if grades[index] >= 1), max(steady, key=grades.__getitem__))


def _stays(sights: Sequence[Sight]) -> bool:
    follower = Follower(sights[0])
    return len(sights) == 1 + STEADY and all(follower(sight) is not None for sight in sights[1:])


class Tracked(NamedTuple):
    """The followed face in one frame of a live view, see `LiveTracker`.

    Attributes:
        face: None where it is not seen, and before the reference frame of its scene.
        scene: number of the scene, rising from 0.
        crop: None before the first reference frame.
        is_reference: True for one frame of each scene, from which relative motion starts.
    """

    face: Face | None
    scene: int
    crop: Crop | None
    is_reference: bool


class LiveTracker:
    """Follows one face from frame to frame, for a camera: only the past is known.

    The reference frame of a scene is the first that is as good as `reference_frame` wants among those seen so far, at
    least three and at most 25 with a face. A scene cut is known two frames late; until then no face is reported.

    Args:
        detector: such as `BlazeFaceDetector()`.
        scenes: find scene cuts.
        follow: let the crop follow the face; otherwise it stays in place until the head would leave it.
    """

    def __init__(self, detector: FaceDetector, *, scenes: bool = True, follow: bool = False) -> None:
        self.detector, self.scenes, self.follow = detector, scenes, follow
        self._cuts, self._scene, self._crop = SceneCuts(), 0, LiveCrop(follow)
        self._start()

    def _start(self) -> None:
        self._seen: list[Floats] = []
        self._follower: Follower | None = None

    def __call__(self, image: Image, time: float) -> Tracked:
        """Take the next frame, uint8 (H, W, 3), at its time in seconds."""
        sight, look = see(image, self.detector([image])[0])
        state = self._cuts(look) if self.scenes else "same"
        if state == "cut":
            self._scene += 1
            self._crop = LiveCrop(self.follow)
            self._start()
        is_reference = state != "waiting" and self._follower is None and self._is_good(sight)
        if is_reference:
            self._follower = Follower(sight)
        face = self._follower(sight) if self._follower and state != "waiting" else None
        return Tracked(face, self._scene, self._crop(face, time), is_reference)

    def _is_good(self, sight: Sight) -> bool:
        if not sight.faces:
            return False
        self._seen.append(sight.measured)
        good = grade(np.array(self._seen))[-1] >= 1
        return len(self._seen) > STEADY and bool(good or len(self._seen) >= PATIENCE)
