"""Laws of the metrics of landmarks, identity, pose and expression, and values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthaware import metrics

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bits(*shape: int, seed: int = 0) -> Tensor:
    return (normal(*shape, seed=seed) > 0).double()


INPUTS = {
    "akd": lambda seed: 128 + 40 * normal(4, 68, 2, seed=seed),
    "aed": lambda seed: normal(4, 128, seed=seed),
    "csim": lambda seed: normal(4, 128, seed=seed),
    "prmse": lambda seed: 20 * normal(4, 3, seed=seed),
    "aucon": lambda seed: bits(4, 17, seed=seed),
}
each_metric = pytest.mark.parametrize("name", INPUTS)


@each_metric
@given(seed=seeds)
@few
def test_identity_is_exactly_perfect_and_nothing_else_is(name, seed):
    metric, x, y = getattr(metrics, name), INPUTS[name](seed), INPUTS[name](seed + 1)
    perfect = 1 if name in {"csim", "aucon"} else 0
    assert metric(x.float(), x.float()).tolist() == [perfect] * 4
    assert all(value < 1 if perfect else value > 0 for value in metric(x, y))


@each_metric
@given(seed=seeds)
@few
def test_pairs_are_symmetric_and_independent(name, seed):
    metric, x, y = getattr(metrics, name), INPUTS[name](seed), INPUTS[name](seed + 1)
    whole, order = metric(x, y), torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(metric(y, x), whole)
    torch.testing.assert_close(metric(x[order], y[order]), whole[order], atol=0, rtol=0)


@each_metric
def test_a_row_of_nan_gives_nan_and_is_counted(name):
    metric, x, y = getattr(metrics, name), INPUTS[name](0), INPUTS[name](1)
    whole = metric(x, y)
    x[1], y[2] = torch.nan, torch.nan
    values = metric(x, y)
    assert values.isnan().tolist() == [False, True, True, False]
    average = metrics.Average()
    average.update(values)
    assert (average.count, average.skipped) == (2, 2)
    assert average.compute() == pytest.approx((whole[0] + whole[3]).item() / 2)


@each_metric
def test_shapes_that_would_broadcast_are_refused(name):
    metric, x = getattr(metrics, name), INPUTS[name](0)
    for prediction, target in ((x, x[:1]), (x[0], x[0]), (x, x[..., :1])):
        with pytest.raises(ValueError, match=r"one shape \(B, .*\), got \(.*\) and \(.*\)"):
            metric(prediction, target)


def test_akd_by_hand():
    target = torch.zeros(1, 2, 2)
    prediction = torch.tensor([[[3.0, -4.0], [0.0, 1.0]]])
    assert metrics.akd(prediction, target).item() == (3 + 4 + 0 + 1) / 4
    assert metrics.akd(prediction, target, form="euclidean").item() == (5 + 1) / 2


@given(seeds, st.integers(2, 6))
@few
def test_akd_does_not_know_the_size_of_the_image(seed, factor):
    x, y = INPUTS["akd"](seed), INPUTS["akd"](seed + 1)
    for form in ("absolute", "euclidean"):
        scaled = metrics.akd(factor * x, factor * y, size=factor * 256, form=form)
        torch.testing.assert_close(scaled, metrics.akd(x, y, form=form))
    ratio = metrics.akd(x, y, form="euclidean") / metrics.akd(x, y)
    assert (ratio >= math.sqrt(2)).all() and (ratio <= 2).all()


def test_aed_by_hand():
    x, y = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 0.0, 3.0, 0.0]])
    assert metrics.aed(x, y).item() == 4 + 16
    assert metrics.aed(x, y, form="l2").item() == pytest.approx(math.sqrt(20))
    assert metrics.aed(x, y, form="mean_absolute").item() == (2 + 4) / 4


@given(seeds)
@few
def test_aed_of_unit_embeddings_follows_from_csim(seed):
    x, y = INPUTS["aed"](seed), INPUTS["aed"](seed + 1)
    unit = [v / v.norm(dim=1, keepdim=True) for v in (x, y)]
    torch.testing.assert_close(metrics.aed(*unit), 2 - 2 * metrics.csim(x, y))


@given(seeds, st.floats(0.01, 100))
@few
def test_csim_is_the_cosine_of_the_angle_whatever_the_lengths(seed, factor):
    x, y = INPUTS["csim"](seed), INPUTS["csim"](seed + 1)
    torch.testing.assert_close(metrics.csim(factor * x, y), torch.cosine_similarity(x, y))
    torch.testing.assert_close(metrics.csim(-x, y), -metrics.csim(x, y))
    angle = torch.tensor([[math.cos(1.0), math.sin(1.0)]])
    assert metrics.csim(angle, torch.tensor([[2.0, 0.0]])).item() == pytest.approx(math.cos(1.0))
    assert metrics.csim(torch.zeros(1, 2), angle).isnan()


@pytest.mark.parametrize("axis", range(3))
def test_turning_the_head_further_raises_prmse_accordingly(axis):
    """A head turned by 5, 10, 20 degrees around one of three axes: root of a third of the square."""
    pose = torch.tensor([[12.0, -7.0, 178.0]]).repeat(3, 1)
    turned = pose.clone()
    turned[:, axis] += torch.tensor([5.0, 10.0, 20.0])
    expected = torch.tensor([5.0, 10.0, 20.0]) / math.sqrt(3)
    torch.testing.assert_close(metrics.prmse(turned, pose), expected)


@given(seeds, st.integers(-3, 3))
@few
def test_prmse_takes_the_short_way_round(seed, turns):
    x, y = INPUTS["prmse"](seed), INPUTS["prmse"](seed + 1)
    torch.testing.assert_close(metrics.prmse(x + 360 * turns, y), metrics.prmse(x, y))
    opposite = metrics.prmse(x + 180, x)
    torch.testing.assert_close(opposite, torch.full_like(opposite, 180))
    assert metrics.prmse(torch.full((1, 3), 179.0), torch.full((1, 3), -179.0)).item() == 2


def test_prmse_per_frame_is_never_above_that_of_all_frames():
    x, y = 20 * normal(50, 3), 20 * normal(50, 3, seed=1)
    values = metrics.prmse(x, y)
    pooled = (x - y).square().mean().sqrt()
    assert values.mean() < pooled
    torch.testing.assert_close(values.square().mean().sqrt(), pooled)


def test_aucon_by_hand_of_bools_and_of_floats():
    x, y = torch.tensor([[True, False, False, True, True]]), torch.tensor([[True, False, True, True, False]])
    assert metrics.aucon(x, y).item() == pytest.approx(3 / 5)
    assert metrics.aucon(x.float(), y).item() == metrics.aucon(x, y).item()
    with pytest.raises(ValueError, match="units of 0 or 1 as target, got intensities"):
        metrics.aucon(x, 2.5 * y)


@given(seeds)
@few
def test_flipping_every_unit_turns_aucon_around(seed):
    x, y = INPUTS["aucon"](seed), INPUTS["aucon"](seed + 1)
    torch.testing.assert_close(metrics.aucon(1 - x, y), 1 - metrics.aucon(x, y))


# Jitter


def path(frames: int = 12, seed: int = 0) -> Tensor:
    return 128 + normal(frames, 68, 2, seed=seed).cumsum(0)


@given(seeds)
@few
def test_jitter_is_blind_to_steady_motion_and_to_where_the_face_is(seed):
    x, driving = path(seed=seed), path(seed=seed + 1)
    steady = torch.arange(12.0)[:, None, None] * normal(1, 68, 2, seed=seed + 2) + normal(1, 68, 2, seed=seed + 3)
    for form in ("excess", "error"):
        torch.testing.assert_close(
            metrics.jitter(x + steady, driving, form=form), metrics.jitter(x, driving, form=form)
        )
        assert metrics.jitter(driving.float(), driving.float(), form=form).tolist() == [0.0] * 10
        scaled = metrics.jitter(2 * x, 2 * driving, form=form, size=512)
        torch.testing.assert_close(scaled, metrics.jitter(x, driving, form=form))


def test_jitter_by_hand_of_a_trembling_point():
    """To and fro by 1 pixel: second differences of 4 pixels; a driving face at rest; one that falls by 3 per frame²."""
    frames = torch.arange(6.0)
    trembling, still, falling = torch.zeros(6, 1, 2), torch.zeros(6, 1, 2), torch.zeros(6, 1, 2)
    trembling[:, 0, 0], falling[:, 0, 1] = (-1) ** frames, 1.5 * frames**2
    assert metrics.jitter(trembling, still).tolist() == [4.0] * 4
    assert metrics.jitter(trembling, falling).tolist() == [1.0] * 4
    assert metrics.jitter(still, falling).tolist() == [-3.0] * 4
    assert metrics.jitter(trembling, falling, form="error").tolist() == [5.0] * 4


def test_jitter_grows_with_the_trembling():
    driving = path()
    for form in ("excess", "error"):
        values = [
            metrics.jitter(driving + s * normal(12, 68, 2, seed=9), driving, form=form).mean() for s in (0.5, 2, 8)
        ]
        assert 0 < values[0] < values[1] < values[2]


def test_jitter_needs_three_frames_and_leaves_out_those_next_to_a_missed_one():
    x, driving = path(), path(seed=1)
    assert [metrics.jitter(x[:frames], driving[:frames]).shape for frames in (1, 2, 3)] == [(0,), (0,), (1,)]
    x[4] = torch.nan
    assert metrics.jitter(x, driving).isnan().nonzero().flatten().tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match=r"one shape \(T, N, 2\)"):
        metrics.jitter(x, driving[:1])


@pytest.mark.parametrize("name", ["akd", "aed", "jitter"])
def test_unknown_forms_are_refused(name):
    x = path() if name == "jitter" else INPUTS[name](0)
    with pytest.raises(ValueError, match=r"form must be one of .*, got 'mean'"):
        getattr(metrics, name)(x, x, form="mean")
