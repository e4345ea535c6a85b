"""Key points over time: the One-Euro filter, and frames without a face."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthaware.faces.smoothing import OneEuro
from depthaware.inference.smoothing import Hold, KeypointSmoother
from depthaware.keypoints import Keypoints

RATES = st.sampled_from([12.5, 25.0, 30.0, 60.0])
LEVELS = st.floats(-10, 10)


def smooth(values, rate, min_cutoff=1.0, beta=0.0):
    one_euro = OneEuro(min_cutoff, beta)
    return [one_euro(value, index / rate) for index, value in enumerate(values)]


@given(LEVELS, RATES)
def test_what_rests_stays(level, rate):
    assert smooth([level] * 9, rate) == [level] * 9


@given(st.lists(LEVELS, min_size=2, max_size=20), st.floats(0.1, 5), st.floats(0, 5))
def test_the_result_stays_between_the_extremes_of_the_input(values, cutoff, beta):
    for index, value in enumerate(smooth(values, 25, cutoff, beta)):
        seen = values[: index + 1]
        assert min(seen) - 1e-6 <= value <= max(seen) + 1e-6


@given(RATES, st.floats(0.5, 3))
def test_a_step_has_come_as_far_after_a_time_whatever_the_frame_rate(rate, cutoff):
    """Without beta it is the filter dx/dt = 2 pi cutoff (target - x), stepped by backward Euler."""
    steps = int(rate)
    reached = smooth([0.0] + [1.0] * steps, rate, cutoff)[-1]
    assert reached == pytest.approx(1 - (1 + 2 * math.pi * cutoff / rate) ** -steps, abs=1e-9)
    assert reached == pytest.approx(1 - math.exp(-2 * math.pi * cutoff), abs=0.03)


def test_beta_lets_motion_through_and_noise_at_rest_not():
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    ramp = np.linspace(0, 20, 200)
    slow, quick = (np.array(smooth(ramp + noise, 25, 0.5, beta)) for beta in (0.0, 2.0))
    assert abs(slow - ramp)[50:].mean() > 10 * abs(quick - ramp)[50:].mean()
    assert np.std(smooth(noise, 25, 0.5, 0.05)[50:]) < 0.4 * noise.std()


def test_a_sample_of_the_past_changes_nothing():
    one_euro = OneEuro(1, 1)
    assert [one_euro(1.0, 0), one_euro(5.0, 0), one_euro(5.0, -1)] == [1, 1, 1]


@pytest.mark.parametrize("bad", [(0, 1), (1, -1), (math.nan, 0)])
def test_meaningless_parameters_are_refused(bad):
    with pytest.raises(ValueError, match="expected positive cutoffs and beta from 0"):
        OneEuro(*bad)


def random_keypoints(count, jacobian=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    value = torch.rand(count, 5, 2, generator=generator)
    return Keypoints(value, torch.rand(count, 5, 2, 2, generator=generator) if jacobian else None)


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("make", [KeypointSmoother, lambda: Hold(random_keypoints(1, seed=1))])
def test_batches_make_no_difference(make, jacobian):
    if not jacobian:
        make = {KeypointSmoother: make}.get(make, lambda: Hold(random_keypoints(1, False, seed=1)))
    keypoints, times = random_keypoints(12, jacobian), [index / 10 for index in range(12)]
    found = [index % 5 < 3 for index in range(12)]

    def call(filtered, start, end):
        rows = Keypoints(*(None if part is None else part[start:end] for part in keypoints))
        more = (found[start:end],) if isinstance(filtered, Hold) else ()
        return filtered(rows, *more, times[start:end])

    whole, first = call(make(), 0, 12), make()
    parts = [call(first, *span) for span in ((0, 1), (1, 1), (1, 7), (7, 12))]
    for index, part in enumerate(whole):
        assert (part is None) == (not jacobian and index == 1)
        if part is not None:
            assert torch.equal(part, torch.cat([keypoints[index] for keypoints in parts]))


def hold_after_a_second(rest, moved, missing, back=0.0, rate=100):
    """Key points that a `Hold` shows after `missing` seconds without the face, which was `moved` before."""
    frames = round((1 + missing + back) * rate) + 1
    found = [index <= rate or index > (1 + missing) * rate for index in range(frames)]
    keypoints = Keypoints(moved.value.expand(frames, -1, -1), moved.jacobian.expand(frames, -1, -1, -1))
    return Hold(rest)(keypoints, found, [index / rate for index in range(frames)])


def test_a_lost_face_is_held_then_fades_to_rest_and_comes_back():
    rest, moved = random_keypoints(1), random_keypoints(1, seed=1)
    held = hold_after_a_second(rest, moved, 0.15)
    assert all(torch.equal(part[-1:], before) for part, before in zip(held, moved, strict=True))
    half = hold_after_a_second(rest, moved, 0.71).value[-1:]
    torch.testing.assert_close(half, (rest.value + moved.value) / 2, atol=0.02, rtol=0)
    for part, expected in zip(hold_after_a_second(rest, moved, 1.5), rest, strict=True):
        torch.testing.assert_close(part[-1:], expected)
    for part, expected in zip(hold_after_a_second(rest, moved, 1.5, back=0.3), moved, strict=True):
        torch.testing.assert_close(part[-1:], expected)


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_coming_and_going_faces_never_jump(found):
    """A still face moves by at most the steepest part of the two cosines, pi / 2 of the way / duration."""
    rest, moved = random_keypoints(1), random_keypoints(1, seed=1)
    keypoints = Keypoints(moved.value.expand(len(found), -1, -1))
    shown = Hold(Keypoints(rest.value))(keypoints, found, [index / 25 for index in range(len(found))]).value
    way = (moved.value - rest.value).norm(dim=2).max()
    assert (shown[1:] - shown[:-1]).norm(dim=2).max() <= math.pi / 2 / 0.2 / 25 * way + 1e-5


def test_a_video_full_of_faces_is_left_alone():
    keypoints = random_keypoints(6)
    shown = Hold(random_keypoints(1, seed=1))(keypoints, [True] * 6, [index / 25 for index in range(6)])
    assert torch.equal(shown.value, keypoints.value)
    assert torch.equal(shown.jacobian, keypoints.jacobian)
