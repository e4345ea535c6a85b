"""Spans of frames in which one face stays in place."""

import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data.prepare import Box, Detection, Shot, divide, find_shots, find_spans
from depthaware.data.prepare.spans import overlap
from depthaware.media.video import Frame

laws = settings(max_examples=100, deadline=None, derandomize=True)


@laws
@given(*[st.tuples(*[st.integers(0, 50)] * 4)] * 2)
def test_overlap_is_that_of_sets_of_pixels(a, b):
    boxes = [Box(x, y, x + w + 1, y + h + 1) for x, y, w, h in (a, b)]
    one, other = np.zeros((2, 102, 102), bool)
    for mask, box in zip((one, other), boxes, strict=True):
        mask[box.top : box.bottom, box.left : box.right] = True
    assert overlap(*boxes) == pytest.approx((one & other).sum() / (one | other).sum())


def shot_of(places: list[tuple[float, ...]], step: int = 5) -> Shot:
    """At each detection faces of 100 pixels with these left edges."""
    detections = [Detection(i * step, tuple(Box(x, 0, x + 100, 100) for x in row)) for i, row in enumerate(places)]
    return Shot(0, len(places) * step, tuple(detections))


class GrayVideo(list):
    """Frames of these gray levels, in [0, 1], at 25 a second."""

    rate, size = Fraction(25), (50, 50)

    def __init__(self, levels: list[float]) -> None:
        images = [np.full((50, 50, 3), round(255 * level), np.uint8) for level in levels]
        super().__init__(Frame(image, Fraction(i, 25)) for i, image in enumerate(images))


def test_a_shot_ends_at_a_change_that_is_large_for_that_shot():
    steady, shaking = [0.2] * 12, [0.2 + 0.06 * (i % 2) for i in range(12)]
    for before, step, cuts in ((steady, 0.07, 0), (steady, 0.15, 1), (shaking, 0.15, 0), (shaking, 0.5, 1)):
        shots, times = find_shots(GrayVideo([*before, *(before[-1] + step for _ in range(9))]), lambda image: (), 5)
        assert [(shot.first, shot.last) for shot in shots] == ([(0, 12), (12, 21)] if cuts else [(0, 21)])
        assert times == [Fraction(i, 25) for i in range(21)]
        found = [detection.frame for shot in shots for detection in shot.detections]
        assert found == ([0, 5, 10, 12, 17] if cuts else [0, 5, 10, 15, 20])  # the first frame, then 5 a second


@laws
@given(st.lists(st.lists(st.floats(0, 300), max_size=3).map(tuple), min_size=1, max_size=30), st.integers(3, 40))
def test_spans_and_their_parts_cover_a_shot_without_a_gap(places, longest):
    shot = shot_of(places)
    spans = find_spans(shot, 0.3)
    pieces = [part for span in spans for part in divide(span, longest)]
    for cover in (spans, pieces):
        assert cover[0].first == 0 and cover[-1].last == shot.last
        assert all(a.last == b.first for a, b in pairwise(cover))
    assert all(0 < part.last - part.first <= longest for part in pieces)
    for part in pieces:
        inside = {detection.frame for detection in shot.detections if part.first <= detection.frame < part.last}
        assert inside <= {detection.frame for detection in part.detections}


@pytest.mark.parametrize(
    ("places", "reasons"),
    [
        ([(0,)] * 8, [""]),
        ([(0,)] * 4 + [()] * 3 + [(9,)] * 4, [""]),  # turned away for a moment
        ([(0,)] * 4 + [()] * 4 + [(9,)] * 4, ["", "no face", ""]),
        ([(0,)] * 4 + [()] * 1 + [(200,)] * 4, ["", "no face", ""]),
        ([(0,)] * 4 + [(200,)] * 4, ["", ""]),
        ([(0,)] * 4 + [(0, 200)] * 4, ["", "several faces"]),
        ([()] * 4, ["no face"]),
    ],
)
def test_a_clip_ends_where_its_face_does(places, reasons):
    assert [span.reason for span in find_spans(shot_of(places), 0.3)] == reasons


@laws
@given(st.lists(st.integers(0, 120), min_size=1, max_size=40))
def test_a_face_stays_while_it_overlaps_its_mean_place(lefts):
    shot = shot_of([(float(left),) for left in lefts])
    spans = find_spans(shot, 0.6)
    kept = [detection.faces[0].left for span in spans for detection in span.detections]
    assert kept == lefts
    for span, after in zip(spans, [*spans[1:], None], strict=True):
        own = np.array([detection.faces[0] for detection in span.detections])
        overlaps = [overlap(Box(*own[:i].mean(axis=0)), Box(*own[i])) for i in range(1, len(own))]
        assert all(value >= 0.6 - 1e-9 for value in overlaps)
        if after:
            assert overlap(Box(*own.mean(axis=0)), after.detections[0].faces[0]) < 0.6 + 1e-9


def test_a_long_shot_takes_no_longer_by_the_look():
    start = time.process_time()
    assert len(find_spans(shot_of([(0.0,)] * 12000), 0.3)) == 1
    assert time.process_time() - start < 10  # if every detection went through all before it: about a minute


def test_small_faces_in_the_background_are_no_company():
    detections = tuple(Detection(i, (Box(0, 0, 100, 100), Box(200, 0, 260, 60))) for i in range(5))
    assert [span.reason for span in find_spans(Shot(0, 5, detections), 0.3)] == [""]
