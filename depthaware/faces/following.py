"""One person followed among the faces of consecutive frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..media.image import Image
from .face import Face
from .quality import eye_openness, face_patch, sharpness
from .scenes import Floats, Look, box_change, small_patch, take_look

MOST = 6  # faces of a frame that are looked at, the largest
LIMIT = 1.0  # of the cost of taking a face for the one of the frame before, see `Follower`


class Sight(NamedTuple):
    """What is kept of a frame: a few hundred bytes a face.

    Attributes:
        faces: the largest first.
        patches: of each, see `small_patch`.
        sharp: `sharpness` of the largest, 0 without a face.
        open: `eye_openness` likewise.
    """

    faces: Sequence[Face]
    patches: Sequence[Floats]
    sharp: float
    open: float


def see(image: Image, faces: Sequence[Face]) -> tuple[Sight, Look | None]:
    """Take from a frame, uint8 (H, W, 3), and the faces found in it what tracking needs."""
    faces = faces[:MOST]
    if not faces:
        return Sight((), (), 0.0, 0.0), None
    patches = [face_patch(image, face) for face in faces]
    sight = Sight(faces, [small_patch(patch) for patch in patches], sharpness(patches[0]), eye_openness(patches[0]))
    return sight, take_look(image, faces[0], patches[0])


class Follower:
    """Follows the person of one face from frame to frame, forwards or backwards in time.

    A face is taken for the followed one if the way from where it was seen last, in sides of its box, plus the logarithm
    of the ratio of the sizes, plus 1 - correlation of its looks is less than 1 and the least of all. While it is not
    seen, it may move: way and ratio count for less, down to a third after 20 frames.

    Args:
        sight: of a frame whose largest face is to be followed.
    """

    def __init__(self, sight: Sight) -> None:
        self._box, self._first = sight.faces[0].box, sight.patches[0]
        self._last, self._missed = self._first, 0

    def __call__(self, sight: Sight) -> Face | None:
        """Find the followed face in the next frame; None if it is not there."""
        costs = [self._cost(face, patch) for face, patch in zip(sight.faces, sight.patches, strict=True)]
        best = min(range(len(costs)), key=costs.__getitem__, default=None)
        if best is None or costs[best] >= LIMIT:
            self._missed += 1
            return None
        self._box, self._last, self._missed = sight.faces[best].box, sight.patches[best], 0
        return sight.faces[best]

    def _cost(self, face: Face, patch: Floats) -> float:
        alike = max(float((patch * known).sum()) for known in (self._first, self._last))
        return sum(box_change(self._box, face.box)) / min(1 + self._missed / 10, 3) + 1 - alike


def follow_face(sights: Sequence[Sight], reference: int) -> list[Face | None]:
    """Follow the largest face of one frame to the start and the end of a scene."""

    def found(others: Iterable[Sight]) -> list[Face | None]:
        return list(map(Follower(sights[reference]), others))

    before, after = found(reversed(sights[:reference])), found(sights[reference + 1 :])
    return [*reversed(before), sights[reference].faces[0], *after]
