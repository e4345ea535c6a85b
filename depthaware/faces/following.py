"""One person followed among the faces of consecutive frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..media.image import Image
from .face import Face
from .quality import Floats, face_patch, measure
from .scenes import Look, box_change, small_patch, take_look

MOST = 6  # faces of a frame that are looked at, the largest
LIMIT = 1.0  # of the cost of taking a face for the one of the frame before, see `Follower`
SURE = 0.35  # cost below which it is taken even if it might be another face seen before
FORGET = 12  # frames without the followed face after which others are no longer told from it

Patch = npt.NDArray[np.float16]
Known = tuple[Face, Patch]  # a face and its `small_patch`


class Sight(NamedTuple):
    """What is kept of a frame: about a kilobyte a face.

    Attributes:
        faces: the largest first.
        patches: of each, see `small_patch`, float16.
        measured: quality of the largest, (3,), see `measure`; zeros without a face.
    """

    faces: Sequence[Face]
    patches: Sequence[Patch]
    measured: Floats


def see(image: Image, faces: Sequence[Face]) -> tuple[Sight, Look | None]:
    """Take from a frame, uint8 (H, W, 3), and the faces found in it what tracking needs."""
    faces = faces[:MOST]
    if not faces:
        return Sight((), (), np.zeros(3, np.float32)), None
    patches = [face_patch(image, face) for face in faces]
    sight = Sight(faces, [small_patch(patch).astype(np.float16) for patch in patches], measure(patches[0]))
    return sight, take_look(image, faces[0], patches[0])


class Follower:
    """Follows the person of one face from frame to frame, forwards or backwards in time.

    Two faces of consecutive frames are the same if the way between them, in sides of the box, plus the logarithm of the
    ratio of their sizes, plus 1 - correlation of their looks is less than 1, and least of all. While the followed face
    is not seen, it may move: way and ratio count for less, down to a third after 20 frames. The other faces are known,
    too, so that a person who passes in front of the followed one is not taken for it, unless the sum is below 0.35.

    Args:
        sight: of a frame whose largest face is to be followed.
    """

    def __init__(self, sight: Sight) -> None:
        self._first, self._missed = sight.patches[0], 0
        self._last, *self._others = zip(sight.faces, sight.patches, strict=True)

    def __call__(self, sight: Sight) -> Face | None:
        """Find the followed face in the next frame; None if it is not there."""
        seen = list(zip(sight.faces, sight.patches, strict=True))
        own = [self._cost(face) for face in seen]
        others = self._others if self._missed < FORGET else []
        other = [min((_cost(known, face) for known in others), default=math.inf) for face in seen]
        free = [i for i, cost in enumerate(own) if cost < SURE or cost < min(other[i], LIMIT)]
        if not free:
            self._missed, self._others = self._missed + 1, seen or self._others
            return None
        best = min(free, key=own.__getitem__)
        self._last, self._missed = seen.pop(best), 0
        self._others = seen
        return self._last[0]

    def _cost(self, face: Known) -> float:
        easier = min(1 + self._missed / 10, 3)
        return min(_cost(known, face, easier) for known in ((self._last[0], self._first), self._last))


def _cost(known: Known, seen: Known, easier: float = 1) -> float:
    (before, looked), (face, looks) = known, seen
    return (
        sum(box_change(before.box, face.box)) / easier
        + 1
        - float(np.vdot(looked.astype(np.float32), looks.astype(np.float32)))
    )


def follow_face(sights: Sequence[Sight], reference: int) -> list[Face | None]:
    """Follow the largest face of one frame to the start and the end of a scene."""

    def found(others: Iterable[Sight]) -> list[Face | None]:
        return list(map(Follower(sights[reference]), others))

    before, after = found(reversed(sights[:reference])), found(sights[reference + 1 :])
    return [*reversed(before), sights[reference].faces[0], *after]
