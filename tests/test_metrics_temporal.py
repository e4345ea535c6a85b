"""Trembling and delay of points over time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from depthaware.metrics import delay, tremor

NUMBERS = st.floats(-5, 5)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.floats(0.1, 10))
def test_steady_acceleration_does_not_tremble(coefficients, size):
    times = torch.arange(12.0, dtype=torch.float64)
    motion = sum(value * times**power for power, value in enumerate(coefficients))
    assert tremor(motion[:, None, None].expand(12, 3, 2), size).abs().max() * size < 1e-9 * 1e3


@given(st.integers(0, 99), st.floats(0.1, 10))
def test_tremor_is_the_residual_of_a_savitzky_golay_filter(seed, size):
    points = np.random.default_rng(seed).normal(size=(15, 4, 2))
    rest = (points - savgol_filter(points, 5, 2, axis=0))[2:-2]
    expected = np.sqrt((rest**2).sum(2).mean(1)) / size
    np.testing.assert_allclose(tremor(torch.tensor(points), size), expected)


def wave(count=80, period=19.0):
    times = torch.arange(float(count))[:, None]
    return torch.stack(
        (torch.sin(2 * math.pi * times / period), torch.cos(2 * math.pi * times / (1.3 * period))), dim=2
    )


@given(st.integers(0, 9))
def test_delay_finds_whole_frames(frames):
    target = wave()
    prediction = torch.cat((target[:1].expand(frames, -1, -1), target[: len(target) - frames]))
    assert delay(prediction, target) == pytest.approx(frames, abs=1e-6)


def test_delay_of_an_exponential_average_is_that_of_slow_motion():
    """value[t] += a (x[t] - value[t]) delays slow motion by (1 - a) / a frames."""
    target = wave(600, 200.0)
    value, filtered = target[0], []
    for point in target:
        value = value + 0.4 * (point - value)
        filtered.append(value)
    assert delay(torch.stack(filtered), target) == pytest.approx(1.5, abs=0.1)


def test_no_motion_and_short_videos_have_no_delay_and_no_tremor():
    assert math.isnan(delay(torch.zeros(30, 2, 2), torch.zeros(30, 2, 2)))
    assert math.isnan(delay(wave(11), wave(11)))
    assert tremor(wave(4), 1.0).shape == (0,)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"points: expected \(T, N, 2\), got \(5, 2\)"):
        tremor(torch.zeros(5, 2), 1)
    with pytest.raises(ValueError, match="equal shapes"):
        delay(wave(20), wave(21))
