"""Expression transfer: features that no camera changes, and correlation and slope as scipy has them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from depthaware import extractors, metrics, read_video
from depthaware.evaluation.metric_specs import EXPRESSION
from depthaware.media.image import to_tensor

FEATURES = [getattr(metrics, name) for name in EXPRESSION]


def face(mouth: float = 0.0, width: float = 50.0, eye: float = 6.0) -> torch.Tensor:
    """(1, 68, 2) with the eyes 60 apart and 20 wide; only those points that count are where they belong."""
    points = torch.full((68, 2), 7.0)
    points[62], points[66] = torch.tensor((0.0, 40.0)), torch.tensor((0.0, 40.0 + mouth))
    points[48], points[54] = torch.tensor((-width / 2, 42.0)), torch.tensor((width / 2, 42.0))
    for first, x in ((36, -30.0), (42, 30.0)):
        for i, (dx, dy) in enumerate([(-10, 0), (-4, -eye / 2), (4, -eye / 2), (10, 0), (4, eye / 2), (-4, eye / 2)]):
            points[first + i] = torch.tensor((x + dx, dy))
    return points[None]


def test_features_are_ratios_of_distances():
    found = [feature(face(mouth=12, width=45, eye=7)).item() for feature in FEATURES]
    assert found == pytest.approx([12 / 60, 45 / 60, 7 / 20])


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.2, 5),
    shift=st.tuples(st.floats(-99, 99), st.floats(-99, 99)),
    shape=st.tuples(st.floats(0, 30), st.floats(20, 70), st.floats(0.5, 12)),
)
def test_neither_place_nor_size_nor_roll_change_them(angle, scale, shift, shape):
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = scale * face(*shape) @ turn + torch.tensor(shift)
    for feature in FEATURES:
        torch.testing.assert_close(feature(moved), feature(face(*shape)), rtol=1e-3, atol=1e-4)


def test_no_face_has_no_features_and_other_shapes_are_refused():
    faces = torch.cat((face(9), face() * torch.nan))
    assert [feature(faces).isnan().tolist() for feature in FEATURES] == [[False, True]] * 3
    with pytest.raises(ValueError, match=r"^landmarks: expected \(B, 68, 2\), got \(1, 5, 2\)$"):
        metrics.mouth_opening(torch.zeros(1, 5, 2))


series = st.lists(st.floats(0, 1, width=32), min_size=8, max_size=30)


@settings(max_examples=40, deadline=None)
@given(target=series, noise=series, lost=st.sets(st.integers(0, 7), max_size=3))
def test_correlation_and_slope_are_those_of_scipy(target, noise, lost):
    n = min(len(target), len(noise))
    target, prediction = np.array(target[:n]), 0.3 * np.array(target[:n]) + np.array(noise[:n])
    if len(lost) and n - len(lost) < 8:
        lost = set()
    prediction[list(lost)] = np.nan
    kept = ~np.isnan(prediction)
    found = metrics.expression_transfer(torch.tensor(prediction), torch.tensor(target))
    if np.ptp(target[kept]) < 1e-3 or np.ptp(prediction[kept]) < 1e-3:
        return
    expected = linregress(target[kept], prediction[kept])
    assert found == pytest.approx((expected.rvalue, expected.slope), rel=1e-6, abs=1e-6)


def test_copying_transfers_nothing_and_the_driving_frames_all():
    target = torch.rand(20, generator=torch.Generator().manual_seed(0))
    assert metrics.expression_transfer(torch.full((20,), 0.3), target) == (0, 0)
    assert metrics.expression_transfer(target, target) == pytest.approx((1, 1))
    assert metrics.expression_transfer(1 - 2 * target, target) == pytest.approx((-1, -2))


def test_a_feature_that_does_not_move_is_not_measured():
    target = torch.linspace(0, 1, 20)
    spread = target.std(correction=0).item()
    unknown = [
        metrics.expression_transfer(target, target, moving=spread * 1.01),
        metrics.expression_transfer(target, target * 0 + 0.3),
        metrics.expression_transfer(target[:7], target[:7]),
    ]
    assert all(math.isnan(x) for found in unknown for x in found)
    assert metrics.expression_transfer(target, target, moving=spread * 0.99) == pytest.approx((1, 1))


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-5, 5), min_size=2, max_size=8), copies=st.integers(1, 4))
def test_videos_of_one_person_are_resampled_together(values, copies):
    """Copies of a video add nothing that is known of other persons."""
    repeated = [value for value in values for _ in range(copies)]
    persons = [i for i in range(len(values)) for _ in range(copies)]
    alone, grouped = (metrics.bootstrap_interval(*x, draws=200) for x in ((values,), (repeated,)))
    grouped = metrics.bootstrap_interval(repeated, groups=persons, draws=200)
    assert grouped == pytest.approx(alone)
    with pytest.raises(ValueError, match=r"^groups: expected one for each of 2 values, got 1$"):
        metrics.bootstrap_interval([0.0, 1.0], groups=["a"])


def test_the_bundled_speaker_moves_and_finer_landmarks_see_it_through_compression():
    pytest.importorskip("dlib")
    from depthaware.evaluation.expression import compress

    path = extractors.__file__.replace("extractors/__init__.py", "assets/driving.mp4")
    frames = torch.cat([to_tensor(frame.image) for i, frame in enumerate(read_video(path)) if i % 10 == 0])
    coarse, fine = (extractors.load("landmarks", name)(frames) for name in ("dlib", "dlib-mean"))
    assert (fine - coarse).abs().mean() < 1.5 and (coarse == coarse.round()).all() and (fine != fine.round()).any()
    estimate = extractors.load("expression")
    assert "mean of five boxes" in estimate.name
    features, again = estimate(frames), estimate(compress(frames))
    torch.testing.assert_close(features[:, 0], metrics.mouth_opening(fine))
    found = [metrics.expression_transfer(again[:, i], features[:, i]).correlation for i in range(3)]
    assert min(found) > 0.8, found
