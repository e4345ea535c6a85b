"""Scene cuts: the image changes and so does the face, at once and for good."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..media.image import Image
from .face import Face

Floats = npt.NDArray[np.float32]

THUMB, REACH = 32, 2  # side of a thumbnail, and how far its content may move between two looks, in its pixels
CHANGED = 0.2  # of the image, beyond what the last frames changed: fast motion stays below, see docs/driving-videos.md
ALIKE = 0.93  # correlation of two patches of one face, mostly above; of two persons nearly always below
CONFIRM = 3  # frames with a face that must differ from what was before a cut: flashes are shorter


class Look(NamedTuple):
    """The little that is kept of a frame to tell whether the next one shows the same scene.

    Attributes:
        image: (32, 32, 3), the whole frame, each channel around 0, so that brightness does not matter.
        patch: (16, 16), the face, around 0 and of length 1.
        box: of the face, (4,) in pixels.
    """

    image: Floats
    patch: Floats
    box: Floats


def take_look(image: Image, face: Face, patch: Floats) -> Look:
    """Make the `Look` of an image, uint8 (H, W, 3), a face in it and its `face_patch`."""
    thumb = np.asarray(PIL.Image.fromarray(image).resize((THUMB, THUMB), PIL.Image.Resampling.BOX), np.float32)
    thumb = thumb - thumb.mean(axis=(0, 1))
    return Look(thumb / (thumb.std() + 8), small_patch(patch), face.box)


def small_patch(patch: Floats) -> Floats:
    """Reduce a `face_patch` to (16, 16) around 0 and of length 1: the product of two sums to their correlation."""
    small = patch.reshape(16, 6, 16, 6).mean(axis=(1, 3))
    small = small - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def image_change(a: Look, b: Look) -> float:
    """Mean difference of two images that motion by up to a sixteenth of the image does not explain.

    Each place takes the smallest difference among all shifts; 0 is the same image, about 0.6 another.
    """
    unmoved = float(np.abs(a.image - b.image).mean())
    if unmoved < CHANGED / 2:  # the rest of this takes milliseconds, and most frames end here
        return unmoved
    return max(_unexplained(a.image, b.image), _unexplained(b.image, a.image))


def _unexplained(a: Floats, b: Floats) -> float:
    wide = np.pad(b, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    shifts = np.lib.stride_tricks.sliding_window_view(wide, (THUMB, THUMB), axis=(0, 1))  # (5, 5, 3, 32, 32)
    differences = np.abs(shifts - a.transpose(2, 0, 1)).mean(axis=2)
    padded = np.pad(differences, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    local = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9
    return float(local.min(axis=(0, 1)).mean())


def face_changed(a: Look, b: Look) -> bool:
    """Return True if the faces differ in place, size or looks by more than one face does from frame to frame."""
    moved, grown = box_change(a.box, b.box)
    return moved > 0.5 or grown > 0.35 or float((a.patch * b.patch).sum()) < ALIKE


def box_change(a: Floats, b: Floats) -> tuple[float, float]:
    """Distance of two boxes in sides of the larger one, and the absolute logarithm of the ratio of their sizes."""
    sides = [max(float(box[2] - box[0]), float(box[3] - box[1]), 1e-3) for box in (a, b)]
    distance = math.dist((a[:2] + a[2:]) / 2, (b[:2] + b[2:]) / 2)
    return distance / max(sides), abs(math.log(sides[0] / sides[1]))


class SceneCuts:
    """Finds scene cuts, frame by frame. Frames without a face tell nothing: black, flashes, fades, shots of a room.

    A cut is a frame whose image and face both differ from the one before, if those that follow differ from it too. A
    dissolve from one face into another is not found unless no face is seen in between.
    """

    def __init__(self) -> None:
        self._before: Look | None = None
        self._changes: deque[float] = deque([0.0], maxlen=3)
        self._waiting = 0

    def __call__(self, look: Look | None) -> Literal["same", "waiting", "cut"]:
        """Take the next frame, or None if it shows no face.

        Returns:
            "same": all frames since the last cut are of one scene; "waiting": a new scene may have begun with the first
            frame answered like this; "cut": it has.
        """
        if look is not None:
            if self._before is None or not self._differs(self._before, look):
                self._before, self._waiting = look, 0
            else:
                self._waiting += 1
            if self._waiting == CONFIRM:
                self._before, self._waiting, self._changes = look, 0, deque([0.0], maxlen=3)
                return "cut"
        return "waiting" if self._waiting else "same"

    def _differs(self, before: Look, look: Look) -> bool:
        change = image_change(before, look)
        if face_changed(before, look) and change - sum(self._changes) / len(self._changes) > CHANGED:
            return True
        self._changes.append(change)
        return False
