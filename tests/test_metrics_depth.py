"""Laws of the depth metrics; scipy, numpy and counting all pairs as oracles."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from depthaware import metrics

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)
SCALED = ["abs_rel", "depth_rmse", "delta"]
ORDER = ["ordinal_accuracy", "spearman"]
PERFECT = {"abs_rel": 0, "depth_rmse": 0, "delta": 1, "ordinal_accuracy": 1, "spearman": 1}
each_metric = pytest.mark.parametrize("name", PERFECT)


def depth(seed: int = 0, count: int = 3) -> Tensor:
    noise = torch.rand(count, 1, 9, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.5 + 4 * noise


def half(seed: int = 0) -> Tensor:
    return depth(seed) < 2.5


@given(seeds)
@few
def test_median_scale_gives_the_targets_median_within_the_mask(seed):
    prediction, target, mask = depth(seed), depth(seed + 1), half(seed + 2)
    scaled = metrics.median_scale(prediction, target, mask)
    for s, p, t, m in zip(scaled, prediction, target, mask, strict=True):
        assert np.median(s[m]) == pytest.approx(np.median(t[m]))
        np.testing.assert_allclose(s / p, (s / p)[0, 0, 0])


@each_metric
@given(seed=seeds, factor=st.floats(0.01, 100))
@few
def test_a_prediction_right_up_to_scale_is_perfect_and_scale_does_not_matter(name, seed, factor):
    metric, x, y = getattr(metrics, name), depth(seed), depth(seed + 1)
    torch.testing.assert_close(metric(factor * y, y), torch.full((3,), PERFECT[name], dtype=y.dtype))
    torch.testing.assert_close(metric(factor * x, y), metric(x, y))
    assert metric(y.float(), y.float()).tolist() == [PERFECT[name]] * 3


@pytest.mark.parametrize("name", SCALED)
def test_without_scaling_the_scale_counts(name):
    x = depth()
    expected = {"abs_rel": [0.5] * 3, "delta": [0] * 3, "depth_rmse": [(v / 2).square().mean().sqrt() for v in x]}
    value = getattr(metrics, name)(1.5 * x, x, scale=False)
    torch.testing.assert_close(value, torch.tensor(expected[name], dtype=x.dtype))


@pytest.mark.parametrize("name", ORDER)
@given(seed=seeds)
@few
def test_only_the_order_counts(name, seed):
    metric, x, y = getattr(metrics, name), depth(seed), depth(seed + 1)
    torch.testing.assert_close(metric(x.exp() + 3, y), metric(x, y))
    turned = 1 - metric(x, y) if name == "ordinal_accuracy" else -metric(x, y)
    torch.testing.assert_close(metric(1 / x, y), turned)


@given(seeds)
@few
def test_spearman_is_scipys_also_with_ties(seed):
    x, y, mask = depth(seed).round(), depth(seed + 1).round(decimals=1), half(seed + 2)
    expected = [spearmanr(a[m], b[m]).statistic for a, b, m in zip(x, y, mask, strict=True)]
    np.testing.assert_allclose(metrics.spearman(x, y, mask).numpy(), expected, atol=1e-12)
    assert metrics.spearman(torch.ones_like(y), y).isnan().all()


def test_ordinal_accuracy_is_that_of_all_pairs():
    x, y = depth(1, count=1), depth(2, count=1)
    right = [
        (a < b) == (c < d)
        for (a, c), (b, d) in combinations(zip(x.flatten().tolist(), y.flatten().tolist(), strict=True), 2)
        if max(c / d, d / c) > 1.1
    ]
    drawn = metrics.ordinal_accuracy(x, y, dead_zone=0.1, pairs=200_000)
    assert drawn.item() == pytest.approx(np.mean(right), abs=0.01)


def test_ordinal_accuracy_leaves_out_what_is_equally_far_and_calls_a_flat_prediction_wrong():
    y = depth()
    assert metrics.ordinal_accuracy(torch.ones_like(y), y).tolist() == [0.0] * 3
    near = 1 + 0.001 * y
    assert metrics.ordinal_accuracy(y, near).isnan().all()
    assert metrics.ordinal_accuracy(y, near, dead_zone=0.0).tolist() == [1.0] * 3
    first, again, other = (metrics.ordinal_accuracy(depth(1), y, seed=seed, pairs=100).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_values_by_hand():
    """Medians 2 and 4, so the prediction doubles to 2, 4, 16."""
    prediction, target = torch.tensor([1.0, 2.0, 8.0]), torch.tensor([2.0, 4.0, 8.0])
    pair = prediction.view(1, 1, 1, 3), target.view(1, 1, 1, 3)
    assert metrics.abs_rel(*pair).item() == pytest.approx((0 + 0 + 1) / 3)
    assert metrics.depth_rmse(*pair).item() == pytest.approx((64 / 3) ** 0.5)
    assert metrics.delta(*pair).item() == pytest.approx(2 / 3)
    assert metrics.delta(*pair, threshold=2.1).item() == 1


@each_metric
@given(seed=seeds)
@few
def test_what_is_masked_does_not_exist(name, seed):
    metric, x, y, mask = getattr(metrics, name), depth(seed), depth(seed + 1), half(seed + 2)
    expected = [metric(a[m].view(1, 1, 1, -1), b[m].view(1, 1, 1, -1)) for a, b, m in zip(x, y, mask, strict=True)]
    rubbish = y.masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(metric(x.masked_fill(~mask, torch.nan), rubbish, mask), torch.cat(expected))


@each_metric
def test_more_noise_is_worse_and_every_sample_has_its_own_value(name):
    metric, y = getattr(metrics, name), depth(count=4)
    x = torch.cat([y[:1] * (1 + strength * (depth(5, 1) - 2.5)) for strength in (0.02, 0.08, 0.2, 0.39)])
    y = y[:1].expand_as(x)
    values = metric(x, y)
    assert values.tolist() == sorted(values.tolist(), reverse=PERFECT[name] == 1)
    torch.testing.assert_close(metric(x.flip(0), y), values.flip(0), atol=0, rtol=0)


@each_metric
def test_a_sample_of_nan_or_without_pixels_gives_nan_and_spoils_no_other(name):
    metric, x, y = getattr(metrics, name), depth(), depth(1)
    whole, mask = metric(x, y), torch.ones_like(y, dtype=torch.bool)
    mask[0] = False
    x[2] = torch.nan
    values = metric(x, y, mask)
    assert values.isnan().tolist() == [True, False, True] and values[1] == whole[1]


@pytest.mark.parametrize("name", [*PERFECT, "median_scale"])
def test_what_would_give_a_wrong_number_is_refused(name):
    metric, x = getattr(metrics, name), depth()
    for arguments, words in [
        ((x, x[:1]), r"one shape \(B, 1, H, W\)"),
        ((x[:, 0], x[:, 0]), r"one shape \(B, 1, H, W\)"),
        ((x - 2, x), "a prediction > 0 within the mask, got -1."),
        ((x, 0 * x), "a target > 0 within the mask, got 0"),
        ((x, x, x > 5), None),
        ((x, x, torch.ones_like(x)), "expected a bool mask .* got torch.float64"),
        ((x, x, x[:1] > 0), "expected a bool mask"),
    ]:
        if words is None:
            assert metric(*arguments).isnan().all()
            continue
        with pytest.raises(ValueError, match=words):
            metric(*arguments)
