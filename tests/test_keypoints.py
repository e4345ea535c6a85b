"""Laws of key points: detection, heat maps, transfer of motion; SciPy and plain formulas as oracles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from torch import Tensor, nn

from depthaware.geometry import coordinate_grid
from depthaware.keypoints import Keypoints, RGBDKeypointDetector, gaussian_heatmap, hull_area, transfer_motion

seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None, derandomize=True)

SMALL = {"num_keypoints": 4, "block_expansion": 4, "max_features": 16, "num_blocks": 2}  # sides in multiples of 16


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(seed: int, batch: int = 1, count: int = 6) -> Keypoints:
    """Key points anywhere, with frames that are far from singular."""
    jacobian = torch.eye(2).double() + 0.6 * uniform(batch, count, 2, 2, seed=seed + 1) - 0.3
    return Keypoints(2 * uniform(batch, count, 2, seed=seed) - 1, jacobian)


def detector(**options) -> RGBDKeypointDetector:
    torch.manual_seed(0)
    return RGBDKeypointDetector(**SMALL | options).eval()


# Detection


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (112, 48)])
@pytest.mark.parametrize("padding", [0, 3])
def test_key_points_lie_in_range_and_frames_start_as_the_identity(size, padding):
    image, disparity = uniform(2, 3, *size).float(), uniform(2, 1, *size, seed=1).float()
    kp = detector(padding=padding)(image, disparity)
    assert kp.value.shape == (2, 4, 2) and kp.jacobian.shape == (2, 4, 2, 2)
    assert kp.value.abs().max() <= 1
    torch.testing.assert_close(kp.jacobian, torch.eye(2).expand(2, 4, 2, 2))
    assert detector(estimate_jacobian=False)(image, disparity).jacobian is None


@pytest.mark.parametrize("padding, cells", [(0, 32 - 6), (3, 32)])
@pytest.mark.parametrize("right, down", [(0, 0), (1, 0), (0, 1), (-1, 1)])
def test_key_points_move_with_the_image(padding, cells, right, down):
    """Whole steps of the hourglass (4 cells) move every key point by 4 cells of the heat map.

    In an image that is periodic for every convolution there are no borders, and this is exact.
    """
    model = detector(input="rgb", temperature=1e-4, padding=padding)  # so cold that only the peak counts
    for module in model.hourglass.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    image = torch.zeros(1, 3, 128, 128)
    image[..., 52:76, 48:72] = uniform(3, 24, 24).float()
    still = model(image).value
    moved = model(image.roll((16 * down, 16 * right), dims=(2, 3))).value
    assert still.abs().max() < 0.6  # every peak is on the square, none at the border
    step = 4 * 2 / (cells - 1)
    torch.testing.assert_close(
        moved - still, torch.tensor([right * step, down * step]).expand(1, 4, 2), atol=1e-4, rtol=0
    )


def test_a_key_point_sits_at_the_peak_of_its_heat_map():
    model = detector(input="rgb")
    logits = torch.zeros(1, 4, 10, 10)
    logits[0, torch.arange(4), torch.tensor([0, 0, 9, 3]), torch.tensor([0, 9, 9, 6])] = 100.0
    model.kp.forward = lambda feature: logits
    expected = [[-1, -1], [1, -1], [1, 1], [6 * 2 / 9 - 1, 3 * 2 / 9 - 1]]
    torch.testing.assert_close(model(torch.zeros(1, 3, 64, 64)).value, torch.tensor([expected]))


@pytest.mark.parametrize("modality, sees_image, sees_disparity", [("rgb", 1, 0), ("rgbd", 1, 1), ("depth", 0, 1)])
def test_the_input_option_is_the_modality_used(modality, sees_image, sees_disparity):
    image, disparity = torch.rand(1, 3, 64, 64).requires_grad_(), torch.rand(1, 1, 64, 64).requires_grad_()
    detector(input=modality)(image, disparity).value.square().sum().backward()
    assert (image.grad is not None) == sees_image and (disparity.grad is not None) == sees_disparity


def test_what_cannot_work_is_refused_by_name():
    image, disparity = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    with pytest.raises(ValueError, match="input: expected 'rgb', 'rgbd' or 'depth', got 'rgba'"):
        RGBDKeypointDetector(input="rgba")
    with pytest.raises(ValueError, match="image: expected height and width in multiples of 128, got 64 x 64"):
        RGBDKeypointDetector()(image, disparity)
    with pytest.raises(ValueError, match=r"image: expected .* multiples of 16, got 72 x 64"):
        detector()(torch.rand(1, 3, 72, 64), torch.rand(1, 1, 72, 64))
    with pytest.raises(ValueError, match=r"disparity: expected the size of the image \(1, 3, 64, 64\), got none"):
        detector()(image)
    with pytest.raises(ValueError, match=r"disparity: expected .* got \(1, 1, 32, 32\)"):
        detector(input="depth")(image, disparity[..., :32, :32])
    with pytest.raises(ValueError, match="image: expected sides of at least 32, got 32 x 16"):
        detector(input="rgb")(torch.rand(1, 3, 32, 16))


# Heat maps


@given(seeds, st.floats(0.001, 0.1))
@few
def test_heat_maps_are_the_gaussian_formula(seed, variance):
    value = points(seed, batch=2).value
    y, x = np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 9), indexing="ij")
    dx = x - value[..., 0, None, None].numpy()
    dy = y - value[..., 1, None, None].numpy()
    expected = np.exp(-(dx**2 + dy**2) / (2 * variance))
    np.testing.assert_allclose(gaussian_heatmap(value, (7, 9), variance=variance), expected, rtol=1e-9, atol=1e-300)


def test_a_heat_map_is_one_exactly_at_its_key_point():
    grid = coordinate_grid(6, 8)
    heatmap = gaussian_heatmap(grid.reshape(1, 48, 2), (6, 8))
    torch.testing.assert_close(heatmap.flatten(2).argmax(-1)[0], torch.arange(48))
    torch.testing.assert_close(heatmap.flatten(2).amax(-1), torch.ones(1, 48))


def test_the_default_heat_map_falls_to_one_over_root_e_at_a_tenth():
    heatmap = gaussian_heatmap(torch.zeros(1, 1, 2), (21, 21))[0, 0]  # pixels 0.1 apart, variance 0.01
    assert heatmap[10, 11].item() == pytest.approx(0.6065307, abs=1e-6)
    assert heatmap[12, 10].item() == pytest.approx(0.1353353, abs=1e-6)


# Area of the hull


@given(seeds, st.integers(3, 20))
@few
def test_hull_area_is_scipys_and_knows_no_order_or_duplicates(seed, count):
    cloud = points(seed, count=count).value
    expected = ConvexHull(cloud[0].numpy()).volume
    shuffled = cloud[:, torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    inner = cloud.mean(dim=1, keepdim=True)
    for same in (cloud, shuffled, torch.cat((cloud, cloud), dim=1), torch.cat((cloud, inner), dim=1)):
        assert hull_area(same).item() == pytest.approx(expected, rel=1e-12)


@given(seeds, st.integers(1, 12))
@few
def test_points_on_one_line_have_no_area(seed, count):
    start, direction = uniform(2, seed=seed), uniform(2, seed=seed + 1)
    cloud = start + uniform(1, count, 1, seed=seed + 2) * direction
    assert hull_area(cloud).item() == pytest.approx(0, abs=1e-12)
    assert hull_area(start.expand(1, count, 2)).item() == 0
    assert hull_area((start * torch.tensor([1, 0]).double()).expand(1, count, 2)).item() == 0


def test_hull_area_of_a_square_with_points_on_its_edges():
    square = torch.tensor(
        [[[0, 0], [2, 0], [2, 2], [0, 2], [1, 0], [0, 1], [2, 1], [1, 2], [1, 1]]], dtype=torch.float32
    )
    assert hull_area(square).item() == 4


# Transfer of motion


@given(seeds)
@few
def test_a_driving_frame_in_the_initial_pose_leaves_the_source_as_it_is(seed):
    source, initial = points(seed), points(seed + 10)
    kp = transfer_motion(source, initial, initial)
    torch.testing.assert_close(kp.value, source.value)
    torch.testing.assert_close(kp.jacobian, source.jacobian)


@given(seeds)
@few
def test_a_source_that_is_the_initial_driving_frame_takes_the_driving_key_points(seed):
    driving, initial = points(seed), points(seed + 10)
    kp = transfer_motion(initial, driving, initial)
    torch.testing.assert_close(kp.value, driving.value)
    # J_driving J_initial⁻¹ J_initial
    torch.testing.assert_close(kp.jacobian, driving.jacobian)


@given(seeds)
@few
def test_absolute_motion_is_the_driving_key_points(seed):
    driving = points(seed)
    assert transfer_motion(points(seed + 10), driving, points(seed + 20), mode="absolute") is driving


@given(seeds, st.floats(0.2, 5))
@few
def test_the_size_of_the_driving_face_does_not_matter(seed, size):
    source, driving, initial = points(seed), points(seed + 10), points(seed + 20)
    larger = [kp._replace(value=size * kp.value) for kp in (driving, initial)]
    expected = transfer_motion(source, driving, initial)
    torch.testing.assert_close(transfer_motion(source, *larger).value, expected.value)
    unscaled = transfer_motion(source, *larger, adaptive_scale=False).value - source.value
    torch.testing.assert_close(unscaled, size * (driving.value - initial.value))


@given(seeds)
@few
def test_relative_motion_is_the_printed_formula(seed):
    source, driving, initial = points(seed), points(seed + 10, batch=3), points(seed + 20)
    kp = transfer_motion(source, driving, initial)
    areas = [ConvexHull(one.value[0].numpy()).volume for one in (source, initial)]
    moved = driving.value.numpy() - initial.value.numpy()
    np.testing.assert_allclose(kp.value, source.value.numpy() + np.sqrt(areas[0] / areas[1]) * moved, rtol=1e-10)
    turned = driving.jacobian.numpy() @ np.linalg.inv(initial.jacobian.numpy()) @ source.jacobian.numpy()
    np.testing.assert_allclose(kp.jacobian, turned, rtol=1e-9)


def test_motion_without_frames_or_with_collapsed_key_points_stays_finite():
    source, driving = points(0), points(1)
    assert transfer_motion(Keypoints(source.value), driving, driving).jacobian is None
    collapsed = points(2)._replace(value=torch.zeros(1, 6, 2).double())
    assert transfer_motion(source, driving, collapsed).value.isfinite().all()
    two = [Keypoints(points(seed, count=2).value) for seed in range(3)]
    assert transfer_motion(*two).value.isfinite().all()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode: expected 'relative' or 'absolute', got 'both'"):
        transfer_motion(points(0), points(1), points(2), mode="both")
