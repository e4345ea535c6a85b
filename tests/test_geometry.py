"""Laws of coordinates, cameras and rigid motion; SciPy, torch.linalg and a real stereo pair as oracles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from skimage.data import stereo_motorcycle
from torch import Tensor

from depthaware.geometry import (
    axis_angle_to_rotation,
    backproject,
    coordinate_grid,
    depth_to_disparity,
    disparity_to_depth,
    inverse_2x2,
    invert_pose,
    matmul_2x2,
    normalized_to_pixel,
    pixel_to_normalized,
    pose_matrix,
    project,
    scale_intrinsics,
)
from depthaware.warp import warp

seeds = st.integers(0, 10_000)
sides = st.integers(2, 300)
few = settings(max_examples=25, deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def camera(height: int, width: int, seed: int = 0) -> Tensor:
    """A (1, 3, 3) camera whose principal point lies somewhere in the middle of the image."""
    fx, fy, cx, cy = uniform(4, seed=seed)
    rows = [[width * (0.5 + fx), 0, width * (0.3 + 0.4 * cx)], [0, height * (0.5 + fy), height * (0.3 + 0.4 * cy)]]
    return torch.tensor([[*rows, [0, 0, 1]]], dtype=torch.float64)


# Grid


@given(sides, sides)
@few
def test_corner_pixels_are_exactly_minus_one_and_one(height, width):
    grid = coordinate_grid(height, width)
    assert grid.shape == (height, width, 2)
    assert grid[0, 0].tolist() == [-1, -1] and grid[-1, -1].tolist() == [1, 1]
    assert grid[0, -1].tolist() == [1, -1] and grid[-1, 0].tolist() == [-1, 1]  # (x, y), not (y, x)


@given(sides, sides)
@few
def test_the_grid_is_even_and_is_the_normalized_pixel_positions(height, width):
    grid = coordinate_grid(height, width, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((x, y), dim=-1).double()
    assert torch.equal(pixel_to_normalized(pixels, height, width), grid)
    torch.testing.assert_close(normalized_to_pixel(grid, height, width), pixels, atol=1e-10, rtol=0)


def test_a_single_pixel_does_not_divide_by_zero():
    assert coordinate_grid(1, 1).isfinite().all()


@given(seeds, sides, sides)
@few
def test_pixel_and_normalized_are_inverse(seed, height, width):
    points = 3 * normal(5, 2, seed=seed)
    there = normalized_to_pixel(points, height, width)
    torch.testing.assert_close(pixel_to_normalized(there, height, width), points)


# Disparity and depth


@given(st.floats(0.01, 1), st.floats(1.5, 1000))
@few
def test_depth_is_bounded_falling_and_invertible(near, far):
    disparity = torch.linspace(0, 1, 101, dtype=torch.float64)
    depth = disparity_to_depth(disparity, min_depth=near, max_depth=far)
    assert depth[0].item() == pytest.approx(far) and depth[-1].item() == pytest.approx(near)
    assert (depth.diff() < 0).all()
    torch.testing.assert_close(depth_to_disparity(depth, min_depth=near, max_depth=far), disparity, atol=1e-9, rtol=0)


@pytest.mark.parametrize("convert", [disparity_to_depth, depth_to_disparity])
@pytest.mark.parametrize("near, far", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_an_impossible_depth_range_is_refused(convert, near, far):
    with pytest.raises(ValueError, match="min_depth"):
        convert(torch.ones(1), min_depth=near, max_depth=far)


# Camera


@given(seeds, st.integers(2, 40), st.integers(2, 40))
@few
def test_projecting_what_was_lifted_is_the_identity(seed, height, width):
    depth = 0.1 + uniform(1, 1, height, width, seed=seed)
    K = camera(height, width, seed)
    grid = project(backproject(depth, K), K)
    torch.testing.assert_close(grid[0], coordinate_grid(height, width, dtype=torch.float64), atol=1e-9, rtol=0)


@given(seeds)
@few
def test_lifting_inverts_the_camera_matrix(seed):
    height, width = 5, 7
    depth, K = 0.1 + uniform(2, 1, height, width, seed=seed), torch.cat((camera(5, 7, seed), camera(5, 7, seed + 1)))
    points = backproject(depth, K)
    y, x = 3, 4
    expected = depth[:, 0, y, x, None] * (torch.linalg.inv(K) @ torch.tensor([x, y, 1.0], dtype=torch.float64))
    torch.testing.assert_close(points[:, :, y, x], expected)


@given(seeds)
@few
def test_a_moved_camera_projects_like_the_textbook(seed):
    points, K = backproject(1 + uniform(1, 1, 6, 8, seed=seed), camera(6, 8, seed)), camera(6, 8, seed)
    T = pose_matrix(0.1 * normal(1, 3, seed=seed), 0.1 * normal(1, 3, seed=seed + 1))
    x = K[0] @ (T[0, :3, :3] @ points[0, :, 2, 3] + T[0, :3, 3])
    expected = pixel_to_normalized(x[:2] / x[2], 6, 8)
    torch.testing.assert_close(project(points, K, T)[0, 2, 3], expected)


@pytest.mark.parametrize("z", [-5.0, 0.0, 1e-4])
def test_points_behind_the_camera_or_in_it_are_projected_from_just_before_it(z):
    points, K = normal(1, 3, 4, 4), torch.eye(3).double()[None]
    points[:, 2] = z
    near = torch.cat((points[:, :2], torch.full_like(points[:, 2:], 1e-3)), dim=1)
    torch.testing.assert_close(project(points, K), project(near, K))


@given(seeds, st.integers(1, 4))
@few
def test_scaled_intrinsics_project_to_the_same_normalized_point(seed, factor):
    small, large = (9, 13), (8 * factor + 1, 12 * factor + 1)
    points, K = backproject(1 + uniform(1, 1, *small, seed=seed), camera(*small, seed)), camera(*small, seed)
    T = pose_matrix(torch.zeros(1, 3).double(), 0.1 * normal(1, 3, seed=seed))
    scaled = scale_intrinsics(K, small, large)
    # The same points, as pixels of an image of the other size.
    image = scaled @ (T[:, :3, :3] @ points.flatten(2) + T[:, :3, 3:])
    pixels = (image[:, :2] / image[:, 2:]).transpose(1, 2).view(1, *small, 2)
    torch.testing.assert_close(pixel_to_normalized(pixels, *large), project(points, K, T))
    torch.testing.assert_close(scale_intrinsics(scaled, large, small), K)


# Rigid motion


@given(seeds, st.sampled_from([0.0, 1e-9, 1e-5, 1e-4, 1e-2, 1.0, 10.0]))
@few
def test_rotations_are_scipys(seed, size):
    vectors = size * normal(4, 3, seed=seed)
    expected = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    rotation = axis_angle_to_rotation(vectors)
    torch.testing.assert_close(rotation, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(axis_angle_to_rotation(vectors.float()).double(), expected, atol=1e-5, rtol=0)


@given(seeds)
@few
def test_rotations_are_orthonormal_and_keep_the_hand(seed):
    rotation = axis_angle_to_rotation(4 * normal(4, 3, seed=seed))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(4, 3, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-6, 1e-4, 1.1e-4, 1e-3])
def test_the_gradient_through_small_rotations_is_the_generators(dtype, size):
    """Near zero, R = I + [w]x, so the derivative with respect to w_z is the generator of rotations around z."""
    vector = (size * torch.tensor([0.6, 0.0, 0.8])).to(dtype).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_rotation, vector)[..., 2]
    expected = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=dtype)
    torch.testing.assert_close(jacobian, expected, atol=2e-3, rtol=0)


@given(seeds)
@few
def test_pose_matrix_rotates_then_translates(seed):
    axis_angle, translation, point = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 1), normal(2, 3, seed=seed + 2)
    moved = pose_matrix(axis_angle, translation) @ torch.cat((point, torch.ones(2, 1)), dim=1)[..., None]
    expected = Rotation.from_rotvec(axis_angle.numpy()).apply(point.numpy()) + translation.numpy()
    np.testing.assert_allclose(moved[:, :3, 0], expected, atol=1e-12)
    assert torch.equal(moved[:, 3, 0], torch.ones(2).double())


@given(seeds)
@few
def test_pose_and_its_inverse_cancel(seed):
    T = pose_matrix(normal(3, 3, seed=seed), normal(3, 3, seed=seed + 1))
    identity = torch.eye(4).double().expand(3, 4, 4)
    torch.testing.assert_close(invert_pose(T) @ T, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(T @ invert_pose(T), identity, atol=1e-12, rtol=0)


@given(seeds)
@few
def test_inverse_2x2_is_linalgs(seed):
    matrix = normal(3, 5, 2, 2, seed=seed)
    torch.testing.assert_close(inverse_2x2(matrix), torch.linalg.inv(matrix))


@given(seeds, st.integers(1, 3))
@few
def test_matmul_2x2_is_matmul_and_knows_no_autocast(seed, columns):
    a, b = normal(3, 1, 2, 2, seed=seed).float(), normal(5, 2, columns, seed=seed + 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        product = matmul_2x2(a, b)
    torch.testing.assert_close(product, a @ b)


# Everything together, on a photograph with measured disparity


def test_the_right_photograph_seen_through_the_true_depth_is_the_left_one():
    left, right, disparity = stereo_motorcycle()
    known = torch.from_numpy(np.isfinite(disparity) & (disparity > 0))
    disparity = torch.from_numpy(np.where(known, disparity, 1.0)).double()[None, None]
    left, right = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0 for image in (left, right))
    height, width = left.shape[-2:]

    focal, baseline = 1000.0, 0.2  # any camera will do: only their product and the disparity count
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]).double()
    T = pose_matrix(torch.zeros(1, 3).double(), torch.tensor([[-baseline, 0, 0]]).double())
    seen = warp(right, project(backproject(focal * baseline / disparity, K), K, T).float())

    error, unmoved = ((image - left).abs().mean(1)[0][known].mean().item() for image in (seen, right))
    wrong_way = warp(right, project(backproject(focal * baseline / disparity, K), K, invert_pose(T)).float())
    assert error < 0.35 * unmoved
    assert (wrong_way - left).abs().mean(1)[0][known].mean().item() > unmoved
