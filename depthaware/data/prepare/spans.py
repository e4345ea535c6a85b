"""Shots of a video, and spans of frames in them in which one face stays in place."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...media.video import Video
from .face_crops import Box
from .face_detection import BoxDetector, Detection

CUT = 0.08  # mean change from frame to frame, in [0, 1], from which on there may be a cut
CUT_RATIO = 4  # and how many times the mean change of the shot it must be: a shaking camera makes no cuts
RIVAL = 0.5  # of the largest face's area: a smaller face is in the background
MAX_MISSED = 3  # detections in a row without a face that turned away and came back


class Shot(NamedTuple):
    """Frames between two cuts.

    Attributes:
        first: number of the first frame.
        last: end, exclusive.
        detections: at the first frame and at regular steps.
    """

    first: int
    last: int
    detections: tuple[Detection, ...]


class Span(NamedTuple):
    """Frames with one face that stays in place, or with the reason why they cannot be used.

    Attributes:
        first: number of the first frame.
        last: end, exclusive.
        detections: those inside, and after `divide` also the ones around it.
        reason: "no face" or "several faces"; empty if the span can be used.
    """

    first: int
    last: int
    detections: tuple[Detection, ...]
    reason: str


def find_shots(video: Video, detect: BoxDetector, per_second: float) -> tuple[list[Shot], list[Fraction]]:
    """Decode a video once, divide it at cuts, and detect faces.

    Args:
        video: the source.
        detect: called on the first frame of each shot and then at regular steps.
        per_second: detections per second.

    Returns:
        The shots, and the time of each frame in seconds.
    """
    step = max(1, round(video.rate / Fraction(per_second)))
    stride = max(1, min(video.size) // 50)
    shots: list[tuple[int, list[Detection]]] = []
    times: list[Fraction] = []
    before, changes, count = None, 0.0, 1
    for index, frame in enumerate(video):
        small = frame.image[::stride, ::stride].mean(axis=2) / 255
        change = 1.0 if before is None else float(np.abs(small - before).mean())
        if before is None or change > max(CUT, CUT_RATIO * changes / count):
            shots.append((index, []))
            changes, count = 0.0, 1
        else:
            changes, count = changes + change, count + 1
        first, detections = shots[-1]
        if (index - first) % step == 0:
            detections.append(Detection(index, detect(frame.image)))
        before = small
        times.append(frame.time)
    ends = [first for first, _ in shots[1:]] + [len(times)]
    return [Shot(first, end, tuple(found)) for (first, found), end in zip(shots, ends, strict=True)], times


def find_spans(shot: Shot, min_overlap: float) -> list[Span]:
    """Divide a shot, without gaps, where its face appears, disappears, moves away, or a second face appears.

    Args:
        shot: with at least one detection.
        min_overlap: intersection over union, in [0, 1), of a face with its mean place in the span.
    """
    groups: list[tuple[str, list[Detection]]] = []
    places = np.zeros(4)  # sum of the boxes of the face in the last group
    for detection in _fill_gaps(shot.detections, min_overlap):
        reason, face = _reason(detection), detection.faces[0] if detection.faces else Box(0, 0, 0, 0)
        known, group = groups[-1] if groups else (None, [])
        if reason == known and (reason or overlap(Box(*places / len(group)), face) >= min_overlap):
            group.append(detection)
            places += face
        else:
            groups.append((reason, [detection]))
            places = np.array(face, float)
    # The frames between two detections are not searched, so each span gets half of them.
    edges = [(a[-1].frame + b[0].frame + 1) // 2 for (_, a), (_, b) in pairwise(groups)]
    ends = zip([shot.first, *edges], [*edges, shot.last], groups, strict=True)
    return [Span(first, last, tuple(group), reason) for first, last, (reason, group) in ends]


def _reason(detection: Detection) -> str:
    if not detection.faces:
        return "no face"
    rivals = [face for face in detection.faces[1:] if face.area >= RIVAL * detection.faces[0].area]
    return "several faces" if rivals else ""


def _fill_gaps(detections: Sequence[Detection], min_overlap: float) -> list[Detection]:
    """Fill short gaps between detections at the same place: detectors of frontal faces miss those that turn away."""
    found = [i for i, detection in enumerate(detections) if detection.faces]
    filled = list(detections)
    for i, j in pairwise(found):
        if j - i - 1 <= MAX_MISSED and overlap(detections[i].faces[0], detections[j].faces[0]) >= min_overlap:
            filled[i + 1 : j] = [Detection(missed.frame, detections[i].faces) for missed in detections[i + 1 : j]]
    return filled


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    common = Box(max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)).area
    return common / (a.area + b.area - common)


def divide(span: Span, longest: int) -> list[Span]:
    """Divide a span into equal parts of at most `longest` frames, each with the detections in and around it."""
    count = -(-(span.last - span.first) // longest)
    edges = [span.first + (span.last - span.first) * i // count for i in range(count + 1)]
    return [Span(first, last, _around(span.detections, first, last), span.reason) for first, last in pairwise(edges)]


def _around(detections: Sequence[Detection], first: int, last: int) -> tuple[Detection, ...]:
    """Detections from the last one before a part to the first one after it."""
    start = max((i for i, detection in enumerate(detections) if detection.frame <= first), default=0)
    end = min((i for i, detection in enumerate(detections) if detection.frame >= last), default=len(detections) - 1)
    return tuple(detections[start : end + 1])
