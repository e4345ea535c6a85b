"""Laws of sparse and dense motion."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthaware.geometry import coordinate_grid
from depthaware.keypoints import Keypoints, gaussian_heatmap
from depthaware.motion import DenseMotionNetwork, motion_heatmaps, sparse_motion
from depthaware.warp import warp

seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None, derandomize=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(seed: int, batch: int = 2, count: int = 4) -> Keypoints:
    jacobian = torch.eye(2).double() + 0.6 * uniform(batch, count, 2, 2, seed=seed + 1) - 0.3
    return Keypoints(2 * uniform(batch, count, 2, seed=seed) - 1, jacobian)


def network() -> DenseMotionNetwork:
    torch.manual_seed(0)
    return DenseMotionNetwork(4, block_expansion=4, max_features=16, num_blocks=2).double().eval()


# Sparse motion


@given(seeds)
@few
def test_equal_key_points_do_not_move_anything(seed):
    kp = points(seed)
    grid = coordinate_grid(5, 7, dtype=torch.float64).expand(2, 5, -1, -1, -1)
    torch.testing.assert_close(sparse_motion(kp, kp, (5, 7)), grid)


@given(seeds)
@few
def test_every_motion_takes_its_driving_key_point_to_the_sources(seed):
    """T_k is affine, so that it can be read off anywhere from three corners of the grid."""
    source, driving = points(seed), points(seed + 10)
    motions = sparse_motion(source, driving, (5, 7))[:, 1:]
    origin, x_end, y_end = motions[:, :, 0, 0], motions[:, :, 0, -1], motions[:, :, -1, 0]
    u, v = ((driving.value + 1) / 2)[..., None].unbind(2)
    there = origin + u * (x_end - origin) + v * (y_end - origin)
    torch.testing.assert_close(there, source.value)


@given(seeds)
@few
def test_one_affine_motion_of_everything_is_recovered_by_every_key_point(seed):
    driving = points(seed)
    A = torch.eye(2).double() + 0.6 * uniform(2, 1, 2, 2, seed=seed + 2) - 0.3
    b = uniform(2, 1, 2, seed=seed + 3)
    source = Keypoints((A @ driving.value[..., None])[..., 0] + b, A @ driving.jacobian)
    motions = sparse_motion(source, driving, (5, 7))
    grid = coordinate_grid(5, 7, dtype=torch.float64)
    torch.testing.assert_close(motions[:, 0], grid.expand(2, -1, -1, -1))
    expected = torch.einsum("bnij,hwj->bnhwi", A, grid) + b[:, :, None, None]
    torch.testing.assert_close(motions[:, 1:], expected.expand(-1, 4, -1, -1, -1))


@given(seeds)
@few
def test_without_frames_the_motion_is_the_difference_of_the_key_points(seed):
    source, driving = (Keypoints(points(seed + i).value) for i in (0, 10))
    moved = sparse_motion(source, driving, (5, 7))[:, 1:] - coordinate_grid(5, 7, dtype=torch.float64)
    expected = (source.value - driving.value)[:, :, None, None].expand_as(moved)
    torch.testing.assert_close(moved, expected)


@given(seeds)
@few
def test_heat_maps_show_where_to_less_where_from(seed):
    source, driving = points(seed), points(seed + 10)
    heatmaps = motion_heatmaps(source, driving, (5, 7))
    assert (heatmaps[:, 0] == 0).all()
    expected = gaussian_heatmap(driving.value, (5, 7)) - gaussian_heatmap(source.value, (5, 7))
    torch.testing.assert_close(heatmaps[:, 1:], expected)


# Dense motion


@given(seeds)
@settings(few, max_examples=5)
def test_dense_motion_is_a_convex_combination_of_the_sparse_ones(seed):
    image = uniform(2, 3, 64, 96, seed=seed)
    motion = network()(image, points(seed), points(seed + 10))
    assert motion.deformation.shape == (2, 16, 24, 2) and motion.occlusion_map.shape == (2, 1, 16, 24)
    assert motion.mask.min() >= 0
    torch.testing.assert_close(motion.mask.sum(1), torch.ones(2, 16, 24).double())
    assert (motion.deformation <= motion.sparse_motion.amax(1) + 1e-12).all()
    assert (motion.deformation >= motion.sparse_motion.amin(1) - 1e-12).all()
    explicit = (motion.mask[..., None] * motion.sparse_motion).sum(1)
    torch.testing.assert_close(motion.deformation, explicit)
    assert motion.occlusion_map.min() > 0 and motion.occlusion_map.max() < 1


def test_equal_key_points_give_the_identity_deformation_whatever_the_weights():
    model, kp = network(), points(0)
    motion = model(uniform(2, 3, 64, 64), kp, kp)
    grid = coordinate_grid(16, 16, dtype=torch.float64).expand(2, -1, -1, -1)
    torch.testing.assert_close(motion.deformation, grid)
    small = model.down(uniform(2, 3, 64, 64))
    torch.testing.assert_close(motion.sparse_deformed, small[:, None].expand(-1, 5, -1, -1, -1))


def test_the_network_sees_the_source_under_every_sparse_motion():
    model, source, driving = network(), points(0), points(10)
    image = uniform(2, 3, 64, 64)
    motion = model(image, source, driving)
    for k in range(5):
        seen = warp(model.down(image), motion.sparse_motion[:, k])
        torch.testing.assert_close(motion.sparse_deformed[:, k], seen)


def test_one_source_serves_many_driving_frames():
    model, source, driving = network(), points(0, batch=1), points(10, batch=3)
    image = uniform(1, 3, 64, 64)
    together = model.forward_downsampled(model.down(image).expand(3, -1, -1, -1), source, driving)
    for i in range(3):
        alone = model(image, source, Keypoints(driving.value[i : i + 1], driving.jacobian[i : i + 1]))
        torch.testing.assert_close(together.deformation[i : i + 1], alone.deformation)
        torch.testing.assert_close(together.occlusion_map[i : i + 1], alone.occlusion_map)


@pytest.mark.parametrize("size", [(72, 64), (64, 8), (0, 64)])
def test_sides_that_cannot_be_halved_are_refused_by_name(size):
    found = f"source_image: expected height and width in multiples of 16, got {size[0]} x {size[1]}"
    with pytest.raises(ValueError, match=found):
        network()(torch.zeros(2, 3, *size).double(), points(0), points(10))


def test_coordinates_stay_exact_under_autocast():
    torch.manual_seed(0)
    kp_source, kp_driving = (Keypoints(torch.rand(2, 3, 2), torch.eye(2) + 0.1 * torch.rand(2, 3, 2, 2)) for _ in "sd")
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sparse_motion(kp_source, kp_driving, (8, 8))
    torch.testing.assert_close(rounded, sparse_motion(kp_source, kp_driving, (8, 8)))
