"""Where a video shows one face, and the square that stays on it: looks, shots, spans, crops."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np

from ...media.image import Image
from ...media.video import Video

CUT = 0.08  # mean change from frame to frame, of 1
RESTLESS = 4  # times the usual change of a shot: less than that is no cut where the camera shakes
RIVAL = 0.5  # of the largest face's area: a smaller one stands in the background
FORGIVEN = 3  # looks in a row without a face, which turned away and came back
LIFT = 0.08  # of the face's height: there is more head above a detector's box than below
SLACK = 0.25  # of the side: how far the square may have to move or shrink
SQUARE = 1.1  # sides of a picture that somebody else cropped
FILLED = 0.7  # of its side would be our crop, too


class Box(NamedTuple):
    """Edges in pixels of the picture; right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)


class Crop(NamedTuple):
    """A square of whole pixels."""

    left: int
    top: int
    side: int


class Look(NamedTuple):
    """What was found on a frame: faces, the largest first."""

    frame: int
    faces: tuple[Box, ...]


class Shot(NamedTuple):
    """Frames `first` to `last`, exclusive, between two cuts."""

    first: int
    last: int
    looks: tuple[Look, ...]


class Span(NamedTuple):
    """Frames `first` to `last`, exclusive, with one face that stays in place, or with a reason why there is none."""

    first: int
    last: int
    looks: tuple[Look, ...]
    reason: str


Finder = Callable[[Image], tuple[Box, ...]]


def face_finder(look_side: int) -> Finder:
    """Faces by dlib, the largest first, on a picture reduced to a shorter side of `look_side` pixels.

    dlib finds faces from 80 pixels on, that is from 80 / look_side of the shorter side. Where it finds none it looks
    once more at three quarters of the size: its windows come in steps, and a face may fall between them.
    """
    from ...extractors.dlib_faces import dlib_faces

    detector = dlib_faces().detector

    def find(picture: Image) -> tuple[Box, ...]:
        shorter = min(picture.shape[:2])
        scale = min(look_side, max(shorter, 256)) / shorter
        return find_at(picture, scale) or find_at(picture, 0.75 * scale)

    def find_at(picture: Image, scale: float) -> tuple[Box, ...]:
        height, width = picture.shape[:2]
        small = picture if scale == 1 else resize(picture, (round(scale * height), round(scale * width)))
        edges = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in detector(small, 0)]
        return tuple(sorted((Box(*(x / scale for x in box)) for box in edges), key=lambda box: -box.area))

    return find


def central_face(picture: Image) -> tuple[Box, ...]:
    """What stands for a finder where the picture is cropped already: its central square."""
    left, top, side = central_square(picture.shape[:2])
    return (Box(left, top, left + side, top + side),)


def resize(picture: Image, size: tuple[int, int]) -> Image:
    """Bicubic interpolation to `size`, (height, width) in pixels."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return (
        frame.reformat(width=size[1], height=size[0], interpolation="BICUBIC").to_ndarray().astype(np.uint8, copy=False)
    )


def find_shots(video: Video, find: Finder, per_second: float) -> tuple[list[Shot], list[Fraction]]:
    """Go through a video once: shots, with looks at their first frames and then so many a second; times of frames."""
    step = max(1, round(video.rate / Fraction(per_second)))
    stride = max(1, min(video.size) // 50)
    shots: list[tuple[int, list[Look]]] = []
    times: list[Fraction] = []
    before, changes, count = None, 0.0, 1
    for index, frame in enumerate(video):
        small = frame.image[::stride, ::stride].mean(axis=2) / 255
        change = 1.0 if before is None else float(np.abs(small - before).mean())
        if before is None or change > max(CUT, RESTLESS * changes / count):
            shots.append((index, []))
            changes, count = 0.0, 1
        else:
            changes, count = changes + change, count + 1
        first, looks = shots[-1]
        if (index - first) % step == 0:
            looks.append(Look(index, find(frame.image)))
        before = small
        times.append(frame.time)
    ends = [first for first, _ in shots[1:]] + [len(times)]
    return [Shot(first, end, tuple(looks)) for (first, looks), end in zip(shots, ends, strict=True)], times


def find_spans(shot: Shot, min_overlap: float) -> list[Span]:
    """Divide a shot, without a gap, where its face comes, goes, gets company or moves away."""
    groups: list[tuple[str, list[Look]]] = []
    places = np.zeros(4)  # sum of those of the face in the last group
    for look in _forgive(shot.looks, min_overlap):
        reason, face = _reason(look), look.faces[0] if look.faces else Box(0, 0, 0, 0)
        known, looks = groups[-1] if groups else (None, [])
        if reason == known and (reason or overlap(Box(*places / len(looks)), face) >= min_overlap):
            looks.append(look)
            places += face
        else:
            groups.append((reason, [look]))
            places = np.array(face, float)
    # Nobody has seen what is between two looks, so each gets half of it.
    edges = [(a[-1].frame + b[0].frame + 1) // 2 for (_, a), (_, b) in pairwise(groups)]
    ends = zip([shot.first, *edges], [*edges, shot.last], groups, strict=True)
    return [Span(first, last, tuple(looks), reason) for first, last, (reason, looks) in ends]


def _reason(look: Look) -> str:
    if not look.faces:
        return "no face"
    rivals = [face for face in look.faces[1:] if face.area >= RIVAL * look.faces[0].area]
    return "several faces" if rivals else ""


def _forgive(looks: Sequence[Look], min_overlap: float) -> list[Look]:
    """Fill short gaps between looks at the same place: detectors of frontal faces miss those that turn away."""
    seen = [i for i, look in enumerate(looks) if look.faces]
    filled = list(looks)
    for i, j in pairwise(seen):
        if j - i - 1 <= FORGIVEN and overlap(looks[i].faces[0], looks[j].faces[0]) >= min_overlap:
            filled[i + 1 : j] = [Look(look.frame, looks[i].faces) for look in looks[i + 1 : j]]
    return filled


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    common = Box(max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)).area
    return common / (a.area + b.area - common)


def divide(span: Span, longest: int) -> list[Span]:
    """Equal parts of at most `longest` frames, each with the looks around it."""
    count = -(-(span.last - span.first) // longest)
    edges = [span.first + (span.last - span.first) * i // count for i in range(count + 1)]
    return [Span(first, last, _around(span.looks, first, last), span.reason) for first, last in pairwise(edges)]


def _around(looks: Sequence[Look], first: int, last: int) -> tuple[Look, ...]:
    """Those from the last look before to the first one behind."""
    start = max((i for i, look in enumerate(looks) if look.frame <= first), default=0)
    end = min((i for i, look in enumerate(looks) if look.frame >= last), default=len(looks) - 1)
    return tuple(looks[start : end + 1])


def face_crop(boxes: Sequence[Box], size: tuple[int, int], margin: float) -> Crop | None:
    """The square around all places of a face, `margin` times as large as they are together, inside the picture.

    Args:
        boxes: of the face, one or more.
        size: (height, width) of the picture.
        margin: at least 1.

    Returns:
        None if the square would have to leave the picture by more than `SLACK`. A square picture that the face fills is
        a crop already and taken whole.
    """
    height, width = size
    left, top, right, bottom = _union(boxes, size)
    wanted = margin * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2 - LIFT * (bottom - top)
    whole = central_square(size)
    if max(size) <= SQUARE * min(size) and wanted >= FILLED * whole.side and _holds(whole, left, top, right, bottom):
        return whole
    beyond = [
        max(0, wanted / 2 - middle) + max(0, middle + wanted / 2 - edge) for middle, edge in ((x, width), (y, height))
    ]
    if max(beyond) > SLACK * wanted:
        return None
    side = min(int(np.ceil(round(wanted, 3))), whole.side)  # rounding errors make no pixel
    crop = Crop(_inside(x, side, width, left, right), _inside(y, side, height, top, bottom), side)
    return crop if _holds(crop, left, top, right, bottom) else None


def central_square(size: tuple[int, int]) -> Crop:
    """Largest square in the middle of an image of `size`, (height, width) in pixels."""
    side = min(size)
    return Crop((size[1] - side) // 2, (size[0] - side) // 2, side)


def _union(boxes: Sequence[Box], size: tuple[int, int]) -> Box:
    """Around all boxes, as far as the picture goes; detectors find faces that are half outside."""
    edges = np.array(boxes)
    low, high = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    return Box(*np.maximum(low, 0), *np.minimum(high, size[::-1]))


def _inside(middle: float, side: int, edge: int, low: float, high: float) -> int:
    """Where a square of that side begins, inside the picture and, where it can be, around what it is made for."""
    start = round(min(max(middle - side / 2, high - side), low))
    return min(max(start, 0), edge - side)


def _holds(crop: Crop, left: float, top: float, right: float, bottom: float) -> bool:
    inside_x = crop.left <= np.ceil(left) and np.floor(right) <= crop.left + crop.side
    return bool(inside_x and crop.top <= np.ceil(top) and np.floor(bottom) <= crop.top + crop.side)
