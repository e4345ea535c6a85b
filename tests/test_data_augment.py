"""Color changes: torchvision as the oracle, and hue as a rotation around gray."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data import color_map

SIZE = 32


FACTORS = st.floats(0.9, 1.1)
TURNS = st.floats(-0.1, 0.1)


def patch(seed: int, low: int = 70, high: int = 180) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (2, 6, 5, 3)).astype(np.uint8)  # nothing to clamp


@settings(max_examples=25, deadline=None)
@given(factor=FACTORS, seed=st.integers(0, 99))
def test_brightness_contrast_and_saturation_are_those_of_torchvision(factor, seed):
    functional = pytest.importorskip("torchvision.transforms.functional")
    frames = patch(seed)
    mean = frames[0].mean(axis=(0, 1)) / 255
    image = torch.from_numpy(frames[0]).permute(2, 0, 1) / 255
    for change, factors in (
        (functional.adjust_brightness, (factor, 1, 1)),
        (functional.adjust_contrast, (1, factor, 1)),
        (functional.adjust_saturation, (1, 1, factor)),
    ):
        found = color_map(*factors, hue=0, mean=mean)(frames)[0]
        np.testing.assert_allclose(found, change(image, factor), atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(turns=TURNS, seed=st.integers(0, 99))
def test_hue_turns_colors_around_gray(turns, seed):
    matrix, offset = color_map(1, 1, 1, turns, mean=np.full(3, 0.5))
    np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-12)  # gray stays
    np.testing.assert_allclose(offset, 0, atol=1e-12)
    color = np.random.default_rng(seed).random(3)
    tint, turned = color - color.mean(), matrix @ color - color.mean()
    assert turned.sum() == pytest.approx(0, abs=1e-12)  # as bright as before
    cosine = tint @ turned / (np.linalg.norm(tint) * np.linalg.norm(turned))
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(tint))
    assert np.arccos(np.clip(cosine, -1, 1)) == pytest.approx(2 * np.pi * abs(turns), abs=1e-6)
    back = color_map(1, 1, 1, -turns, mean=np.full(3, 0.5)).matrix
    np.testing.assert_allclose(back @ matrix, np.eye(3), atol=1e-12)


def test_hue_turns_the_way_torchvision_does():
    functional = pytest.importorskip("torchvision.transforms.functional")
    red = np.full((1, 1, 1, 3), (150, 100, 100), np.uint8)
    found = color_map(1, 1, 1, 0.08, mean=np.full(3, 0.5))(red)[0]
    expected = functional.adjust_hue(torch.from_numpy(red[0]).permute(2, 0, 1) / 255, 0.08).numpy()
    assert np.array_equal(np.argsort(found.ravel()), np.argsort(expected.ravel()))  # towards yellow
    np.testing.assert_allclose(found, expected, atol=0.08)


@settings(max_examples=25, deadline=None)
@given(factors=st.tuples(FACTORS, FACTORS, FACTORS, TURNS), seed=st.integers(0, 99))
def test_all_together_is_one_after_the_other(factors, seed):
    frames, mean = patch(seed), np.array([0.4, 0.5, 0.6])
    whole, colors = color_map(*factors, mean=mean), frames.reshape(-1, 3) / 255
    for i, one in enumerate(np.eye(4, dtype=bool)):
        alone = np.where(one, factors, (1, 1, 1, 0))
        # The contrast is around the mean as brightness left it.
        matrix, offset = color_map(*alone, mean=mean * factors[0] if i == 1 else mean)
        colors = colors @ matrix.T + offset
    np.testing.assert_allclose(whole(frames).transpose(0, 2, 3, 1).reshape(-1, 3), colors.clip(0, 1), atol=1e-6)


def test_colors_are_clamped():
    changed = color_map(1.1, 1.1, 1.1, 0.1, mean=np.full(3, 0.5))(patch(0, 0, 256))
    assert changed.min() == 0 and changed.max() == 1
