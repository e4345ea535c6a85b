"""A real stereo pair with measured disparity: lift, move, project and sample, and the other photograph is there.

The bounds are what was measured (in brackets) less some slack. Nothing gives infinity here: the two cameras expose
differently, and metal shines towards one of them.
"""

import numpy as np
import pytest
import torch
from skimage.data import stereo_motorcycle
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from depthaware.geometry import depth_to_disparity, pose_matrix
from depthaware.losses import photometric_error, reproject

FOCAL, BASELINE = 1000.0, 0.2  # any camera will do: only their product counts, and the disparity
RANGE = dict(min_depth=1.0, max_depth=100.0)


class Pair:
    """Two photographs, the depth of the left one, and which of its pixels the right one sees."""

    def __init__(self) -> None:
        left, right, pixels = stereo_motorcycle()  # comes inside scikit-image's wheel
        self.left, self.right = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (left, right))
        known = np.isfinite(pixels) & (pixels > 0)
        pixels = np.where(known, pixels, 1.0)
        self.visible = known & _unoccluded(pixels)
        self.hidden = known & ~self.visible
        self.depth = torch.from_numpy(FOCAL * BASELINE / pixels)[None, None].float().clamp(2, 99)

    def seen(self, *, depth: Tensor | None = None, baseline: float = BASELINE) -> Tensor:
        """The left view, made of the right photograph."""
        height, width = self.left.shape[-2:]
        K = torch.tensor([[[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]]])
        T = pose_matrix(torch.zeros(1, 3), torch.tensor([[-baseline, 0.0, 0.0]]))
        disparity = depth_to_disparity(self.depth if depth is None else depth, **RANGE)
        return reproject(self.right, disparity, T, K, **RANGE)

    def psnr(self, image: Tensor, where: np.ndarray | None = None) -> float:
        """Against the left photograph, where the right one sees the same."""
        where = self.visible if where is None else where
        left, image = (x[0].permute(1, 2, 0).numpy()[where] for x in (self.left, image))
        return peak_signal_noise_ratio(left, image, data_range=1)


def _unoccluded(pixels: np.ndarray) -> np.ndarray:
    """Mask: no nearer pixel of the row lands on the same place in the right photograph."""
    rows, columns = np.indices(pixels.shape)
    landing = np.rint(columns - pixels).astype(int)
    inside = landing >= 0
    nearest = np.zeros_like(pixels)
    np.maximum.at(nearest, (rows[inside], landing[inside]), pixels[inside])
    return inside & (pixels >= nearest[rows, landing.clip(0)] - 1)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


@pytest.fixture(scope="module")
def seen(pair) -> Tensor:
    return pair.seen()


def test_the_left_photograph_is_made_of_the_right_one_where_both_see_the_same(pair, seen):
    assert pair.visible.mean() > 0.8  # 0.84 of the image: the law does not concern a corner alone
    assert pair.psnr(seen) > 26  # 27.6 dB
    assert pair.psnr(pair.right) < 14  # 12.7 dB unmoved
    assert pair.psnr(pair.seen(baseline=-BASELINE)) < pair.psnr(pair.right)  # the wrong way round


def test_its_structure_is_there_as_well(pair, seen):
    def similarity(image: Tensor) -> float:
        left, image = (x[0].permute(1, 2, 0).numpy() for x in (pair.left, image))
        _, each = structural_similarity(left, image, channel_axis=2, data_range=1, full=True)
        return each[pair.visible].mean()

    assert similarity(seen) > 0.84 and similarity(pair.right) < 0.35  # 0.876 and 0.297


def test_the_training_loss_prefers_the_true_depth(pair, seen):
    def error(image: Tensor) -> float:
        return photometric_error(image, pair.left)[0, 0][pair.visible].mean().item()

    assert error(seen) < 0.25 * error(pair.right)  # 0.046 against 0.260


def test_what_the_right_camera_cannot_see_is_not_there(pair, seen):
    assert pair.psnr(seen, pair.hidden) < 16  # 13.3 dB: bounds on visible pixels are worth something


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_depth_wrong_by_two_per_cent_is_seen(pair, seen, factor):
    """Two per cent of 45 px are a pixel: the chain is right to far less than that, and without a bias to one side."""
    assert pair.psnr(pair.seen(depth=factor * pair.depth)) < pair.psnr(seen) - 2.5  # 3.3 and 3.5 dB


def test_no_flat_card_explains_the_photograph(pair, seen):
    cards = [torch.full_like(pair.depth, depth) for depth in np.linspace(2.5, 10, 12)]
    assert max(pair.psnr(pair.seen(depth=card)) for card in cards) < pair.psnr(seen) - 10  # 15.0 dB at best


def test_depth_and_baseline_scale_together(pair, seen):
    """Why depth learned from video has no unit."""
    twice = pair.seen(depth=(2 * pair.depth).clamp_max(99), baseline=2 * BASELINE)
    torch.testing.assert_close(twice[0, :, pair.visible], seen[0, :, pair.visible], atol=2e-3, rtol=0)
