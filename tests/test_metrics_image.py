"""Laws of the image metrics, of averages and intervals; scikit-image, torchmetrics and scipy as oracles."""

import math
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from depthaware import metrics
from depthaware.metrics import FID, LPIPS, Average, bootstrap_interval

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)
SIZES = {"l1": 16, "psnr": 16, "ssim": 24, "ms_ssim": 176}
IDENTITY = {"l1": 0.0, "psnr": math.inf, "ssim": 1.0, "ms_ssim": 1.0}
each_metric = pytest.mark.parametrize("name", SIZES)


def random_images(count: int, size: int = 24, seed: int = 0) -> Tensor:
    """Smooth random images in double precision."""
    noise = torch.rand(count, 3, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(noise, (size, size + 5), mode="bicubic").clamp(0, 1)


def noisy(images: Tensor, strength: float, seed: int = 1) -> Tensor:
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype) - 0.5
    return (images + strength * noise).clamp(0, 1)


@given(seeds)
@few
def test_psnr_is_scikit_images(seed):
    x, y = random_images(2, seed=seed), random_images(2, seed=seed + 1)
    expected = [peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.psnr(x, y).numpy(), expected, rtol=1e-12)


GAUSSIAN = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


@pytest.mark.parametrize("window, options", [("gaussian", GAUSSIAN), ("uniform", {})])
@given(seed=seeds)
@few
def test_ssim_is_scikit_images(window, options, seed):
    x = random_images(2, seed=seed)
    y = noisy(x, 0.4, seed)
    expected = [
        structural_similarity(a.numpy(), b.numpy(), data_range=1, channel_axis=0, **options)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(x, y, window=window).numpy(), expected, atol=1e-12)


def test_ssim_of_luma_is_that_of_the_gray_images():
    x, y = random_images(1), noisy(random_images(1), 0.3)
    gray = [np.tensordot([0.299, 0.587, 0.114], image[0].numpy(), 1) for image in (x, y)]
    expected = structural_similarity(*gray, data_range=1, **GAUSSIAN)
    assert metrics.ssim(x, y, channels="luma").item() == pytest.approx(expected, abs=1e-12)


@given(seeds)
@settings(few, max_examples=2)
def test_ms_ssim_is_made_of_what_torchmetrics_and_scikit_image_give_at_each_scale(seed):
    """torchmetrics for contrast and structure; not for the whole, as its luminance counts windows across the border."""
    x = random_images(1, 180, seed)
    y = noisy(x, 0.6, seed)
    expected, images = 1.0, (x, y)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        _, contrast = structural_similarity_index_measure(*images, data_range=1.0, return_contrast_sensitivity=True)
        expected *= contrast.item() ** weight
        images = [halved(image) for image in images]
    a, b = (image[0].numpy() for image in images)
    expected *= structural_similarity(a, b, data_range=1, channel_axis=0, **GAUSSIAN) ** 0.1333
    assert metrics.ms_ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def halved(image: Tensor) -> Tensor:
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    return image[..., : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2)).mean((3, 5))


@each_metric
def test_values_by_hand_of_black_and_gray(name):
    """Of two flat images only the means differ: 0 and 1/2."""
    x = torch.zeros(1, 3, SIZES[name], SIZES[name])
    luminance = 0.01**2 / (0.25 + 0.01**2)
    by_hand = {"l1": 0.5, "psnr": 10 * math.log10(4), "ssim": luminance, "ms_ssim": luminance**0.1333}
    assert getattr(metrics, name)(x, x + 0.5).item() == pytest.approx(by_hand[name], abs=1e-5)


@each_metric
def test_identity_is_exactly_perfect_in_single_precision(name):
    x = random_images(2, SIZES[name]).float()
    assert getattr(metrics, name)(x, x).tolist() == [IDENTITY[name]] * 2


@each_metric
def test_more_noise_is_worse(name):
    x = random_images(1, SIZES[name])
    values = [getattr(metrics, name)(noisy(x, strength), x).item() for strength in (0.05, 0.1, 0.2, 0.4)]
    assert values == sorted(values, reverse=name != "l1") and len(set(values)) == 4


@each_metric
def test_every_sample_has_its_own_value(name):
    x = random_images(3, SIZES[name])
    y = torch.cat([noisy(x[:1], 0.1), noisy(x[1:2], 0.8), x[2:]])
    whole = getattr(metrics, name)(x, y)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(getattr(metrics, name)(x[order], y[order]), whole[order], atol=0, rtol=0)
    torch.testing.assert_close(getattr(metrics, name)(y, x), whole)
    assert len(set(whole.tolist())) == 3


@each_metric
def test_a_sample_of_nan_gives_nan_and_spoils_no_other(name):
    x = random_images(2, SIZES[name])
    y = noisy(x, 0.1)
    broken = torch.cat([torch.full_like(y[:1], torch.nan), y[1:]])
    values = getattr(metrics, name)(broken, x)
    assert values.isnan().tolist() == [True, False]
    assert values[1] == getattr(metrics, name)(y, x)[1]


@each_metric
def test_autocast_and_half_precision_change_next_to_nothing(name):
    x = random_images(1, SIZES[name]).half()
    y = noisy(x.double(), 0.1).half()
    with torch.autocast("cpu"):
        value = getattr(metrics, name)(y, x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), getattr(metrics, name)(y.double(), x.double()), atol=1e-5, rtol=1e-5)


@each_metric
def test_what_would_give_a_wrong_number_is_refused(name):
    metric, x = getattr(metrics, name), random_images(2, SIZES[name])
    with pytest.raises(ValueError, match=r"one shape \(B, 3, H, W\), got"):
        metric(x, x[:1])
    with pytest.raises(ValueError, match=r"one shape \(B, 3, H, W\), got"):
        metric(x.movedim(1, 3), x.movedim(1, 3))
    with pytest.raises(ValueError, match=r"prediction in \[0, 1\], got values from 0 to 255"):
        metric((x > x.mean()).to(torch.uint8) * 255, x)
    with pytest.raises(ValueError, match=r"target in \[0, 1\], got values from -1 to"):
        metric(x, 2 * (x > x.mean()) - 1.0)


def test_images_smaller_than_the_window_and_unknown_options_are_refused():
    x = torch.rand(1, 3, 10, 40)
    for call, words in [
        (lambda: metrics.ssim(x, x), "at least 11 x 11"),
        (lambda: metrics.ms_ssim(x, x), "at least 176 x 176"),
        (lambda: metrics.ssim(x, x, window="square"), "gaussian, uniform, got 'square'"),
        (lambda: LPIPS("resnet"), "alex, vgg, squeeze, got 'resnet'"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


# Average and interval

values = st.lists(st.floats(-100, 100) | st.just(math.nan), max_size=40)


@given(values, st.integers(1, 7), st.integers(0, 40))
@few
def test_streaming_and_shards_give_the_mean_of_the_whole(values, batch, cut):
    parts = []
    for shard in (values[:cut], values[cut:]):
        parts.append(Average())
        for start in range(0, len(shard), batch):
            parts[-1].update(torch.tensor(shard[start : start + batch], dtype=torch.float64))
    parts[0].merge(parts[1])
    kept = [value for value in values if not math.isnan(value)]
    expected = math.fsum(kept) / len(kept) if kept else math.nan
    assert parts[0].compute() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert (parts[0].count, parts[0].skipped) == (len(kept), len(values) - len(kept))


def test_average_keeps_infinity_and_sums_a_million_small_values():
    average = Average()
    average.update(torch.tensor([20.0, math.inf, math.nan]))
    assert average.compute() == math.inf and average.skipped == 1
    average = Average()
    average.update([1e8])  # in single precision everything that follows would be lost
    for _ in range(10):
        average.update(torch.full((100_000,), 0.1))
    assert average.compute() * average.count == pytest.approx(1e8 + 1e6 * np.float64(np.float32(0.1)), rel=1e-14)


@given(seeds)
@few
def test_the_interval_holds_the_mean_grows_with_the_level_and_moves_with_the_values(seed):
    values = np.random.default_rng(seed).normal(size=30)
    low, high = bootstrap_interval(values, draws=400)
    wider = bootstrap_interval(values, draws=400, level=0.99)
    assert wider[0] <= low < values.mean() < high <= wider[1]
    assert bootstrap_interval(np.append(values, math.nan), draws=400) == (low, high)
    assert bootstrap_interval(3 * values + 5, draws=400) == pytest.approx((3 * low + 5, 3 * high + 5))


def test_the_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_intervals_of_nothing_one_and_infinity():
    assert all(math.isnan(end) for end in bootstrap_interval([math.nan]))
    assert bootstrap_interval([3.0, math.nan]) == (3.0, 3.0)
    assert bootstrap_interval([math.inf] * 5) == (math.inf, math.inf)
    low, high = bootstrap_interval([1.0] * 50 + [math.inf])
    assert (low, high) == (1.0, math.inf)
    with pytest.raises(ValueError, match="level in"):
        bootstrap_interval([1.0], level=95)


# Networks


class Colors(nn.Module):
    """Stands in for a network: four quarters' mean colors."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def test_fid_is_the_frechet_distance_whatever_the_batches():
    x, y = random_images(40), noisy(random_images(40, seed=2), 0.5)
    fid, shard = FID(network=Colors()), FID(network=Colors())
    for start in range(0, 20, 7):
        fid.update(x[start : min(start + 7, 20)], y[start : min(start + 7, 20)])
    shard.update(x[20:], y[20:])
    fid.merge(shard)
    a, b = (Colors()(images).numpy() for images in (x, y))
    covariances = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fid.compute() == pytest.approx(expected, rel=1e-6)


def test_fid_of_equal_sets_is_zero_of_one_image_unknown_and_without_images_of_nan():
    x, fid = random_images(30), FID(network=Colors())
    assert math.isnan(fid.compute())
    fid.update(x[:1], x[:1])
    assert math.isnan(fid.compute())
    fid.update(x[1:], x[1:].flip(0))
    assert fid.compute() == pytest.approx(0, abs=1e-6)
    fid.update(torch.full_like(x[:2], torch.nan), x[:2])
    assert fid.compute() == pytest.approx(0, abs=1e-6) and fid.skipped == 2


def test_lpips_takes_any_distance_and_hands_it_images_in_range():
    x = random_images(3)
    lpips = LPIPS(network=lambda p, t: (p - t).square().mean((1, 2, 3), keepdim=True))
    assert lpips(x, x).tolist() == [0, 0, 0]
    assert lpips(noisy(x, 0.5), x).shape == (3,)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        lpips(255 * x, x)


def test_lpips_is_torchmetrics(monkeypatch):
    """With random weights, as the real ones would be downloaded."""
    import torchvision

    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None).eval()
    monkeypatch.setattr(
        torchmetrics.functional.image.lpips, "_get_tv_model_features", lambda *_, **__: alexnet.features
    )
    x = random_images(2, 64).float()
    y = noisy(x, 0.5)
    oracle = torchmetrics.functional.image.learned_perceptual_image_patch_similarity
    expected = [oracle(a[None], b[None], "alex", normalize=True) for a, b in zip(y, x, strict=True)]
    torch.testing.assert_close(LPIPS()(y, x), torch.stack(expected), atol=1e-6, rtol=1e-5)
    assert LPIPS()(x, x).tolist() == [0, 0]


@pytest.mark.parametrize(
    "error, words",
    [
        (URLError("no route"), "could not download the .* needs .*no route"),
        (ModuleNotFoundError("torch-fidelity"), r'pip install "depthaware\[eval\]"'),
    ],
)
@pytest.mark.parametrize(
    "name, use",
    [
        ("lpip.LearnedPerceptualImagePatchSimilarity", lambda x: LPIPS("vgg")(x, x)),
        ("fid.FrechetInceptionDistance", lambda x: FID().update(x, x)),
    ],
)
def test_weights_or_libraries_that_cannot_be_had_are_named_in_one_line(monkeypatch, name, use, error, words):
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr(f"torchmetrics.image.{name}", fail)
    kind = ImportError if isinstance(error, ImportError) else OSError
    with pytest.raises(kind, match=words) as raised:
        use(random_images(1))
    assert "\n" not in str(raised.value)
