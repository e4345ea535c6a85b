"""Laws of the self-supervised depth loss and its parts; hand-made values and scikit-image as oracles."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from depthaware import losses
from depthaware.geometry import depth_to_disparity, invert_pose, pose_matrix

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Photometric error


@given(seeds)
@few
def test_ssim_is_scikit_images(seed):
    x, y = uniform(1, 1, 12, 17, seed=seed).double(), uniform(1, 1, 12, 17, seed=seed + 1).double()
    y = 0.7 * x + 0.3 * y
    _, expected = structural_similarity(
        x[0, 0].numpy(),
        y[0, 0].numpy(),
        win_size=3,
        data_range=1.0,
        gaussian_weights=False,
        use_sample_covariance=False,
        full=True,
    )
    inner = (0, 0, slice(1, -1), slice(1, -1))  # scikit-image reflects the border the other way
    np.testing.assert_allclose(losses.ssim_map(x, y)[inner].numpy(), expected[1:-1, 1:-1], atol=1e-9)


@given(seeds)
@few
def test_photometric_error_is_a_bounded_symmetric_zero_at_identity(seed):
    x, y = uniform(2, 3, 9, 11, seed=seed), uniform(2, 3, 9, 11, seed=seed + 1)
    error = losses.photometric_error(x, y)
    assert error.shape == (2, 1, 9, 11)
    assert error.max() <= 1
    torch.testing.assert_close(losses.photometric_error(y, x), error)
    assert losses.photometric_error(x, x).abs().max() < 1e-6
    assert error.min() > 0


def test_photometric_error_weighs_its_parts():
    x, y = uniform(1, 3, 8, 8), uniform(1, 3, 8, 8, seed=1)
    l1 = (x - y).abs().mean(1, keepdim=True)
    structure = ((1 - losses.ssim_map(x, y)) / 2).mean(1, keepdim=True)
    torch.testing.assert_close(losses.photometric_error(x, y, alpha=0.0), l1)
    torch.testing.assert_close(losses.photometric_error(x, y), 0.8 * structure + 0.2 * l1)


def test_photometric_error_grows_with_the_damage():
    x, noise = uniform(1, 3, 32, 32), uniform(1, 3, 32, 32, seed=1) - 0.5
    errors = [losses.photometric_error((x + s * noise).clamp(0, 1), x).mean() for s in (0.1, 0.3, 0.9)]
    assert errors[0] < errors[1] < errors[2]


def test_images_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.photometric_error(uniform(1, 3, 8, 8), uniform(2, 3, 8, 8))
    with pytest.raises(ValueError, match="image's size"):
        losses.smoothness_loss(uniform(1, 1, 4, 4), uniform(1, 3, 8, 8))


@given(seeds)
@few
def test_the_best_neighbor_counts_at_every_pixel(seed):
    target, first, second = (uniform(1, 3, 8, 8, seed=seed + i) for i in range(3))
    one, two = (losses.reprojection_loss(target, [image]) for image in (first, second))
    both = losses.reprojection_loss(target, [first, second])
    assert both < min(one, two)  # strictly, because on noise each neighbor is the better one somewhere
    torch.testing.assert_close(losses.reprojection_loss(target, [second, first]), both)
    mosaic = torch.cat((first[..., :4], target[..., 4:]), dim=-1), torch.cat((target[..., :4], first[..., 4:]), dim=-1)
    assert losses.reprojection_loss(target, mosaic, alpha=0.0) == 0


def test_auto_mask_drops_what_warping_does_not_improve():
    target = torch.zeros(1, 1, 4, 8)
    warped = torch.full_like(target, 0.5)
    neighbor = torch.cat((torch.full((1, 1, 4, 4), 0.25), torch.full((1, 1, 4, 4), 1.0)), dim=-1)
    # Left half: the neighbor as it is (0.25) beats the warped one (0.5). Right half: 0.5 beats 1.
    assert losses.reprojection_loss(target, [warped], alpha=0.0).item() == 0.5
    assert losses.reprojection_loss(target, [warped], [neighbor], alpha=0.0).item() == 0.25


def test_a_frozen_video_teaches_nothing():
    target = uniform(2, 3, 16, 16)
    warped = uniform(2, 3, 16, 16, seed=1).requires_grad_()
    loss = losses.reprojection_loss(target, [warped], [target])
    loss.backward()
    assert loss == 0 and warped.grad.abs().max() == 0


def test_a_tie_between_warped_and_unwarped_is_dropped():
    target, neighbor = uniform(2, 3, 16, 16), uniform(2, 3, 16, 16, seed=1)
    assert losses.reprojection_loss(target, [neighbor]) > 0.1
    assert losses.reprojection_loss(target, [neighbor], [neighbor]) == 0


# Smoothness


@given(seeds, st.floats(0.05, 1.0))
@few
def test_smoothness_is_zero_on_constants_and_blind_to_scale(seed, constant):
    disparity, image = uniform(2, 1, 8, 9, seed=seed) + 0.1, uniform(2, 3, 8, 9, seed=seed + 1)
    assert losses.smoothness_loss(torch.full_like(disparity, constant), image) < 1e-6
    loss = losses.smoothness_loss(disparity, image)
    assert loss > 0.01
    torch.testing.assert_close(losses.smoothness_loss(constant * disparity, image), loss, rtol=1e-4, atol=1e-6)


def test_smoothness_of_a_ramp_by_hand():
    ramp = torch.tensor([1.0, 2.0, 3.0]).expand(1, 1, 4, 3)  # mean 2, so steps of 1/2 along x and 0 along y
    flat, steep = torch.zeros(1, 3, 4, 3), torch.tensor([0.0, 1.0, 0.0]).expand(1, 3, 4, 3)
    torch.testing.assert_close(losses.smoothness_loss(ramp, flat), torch.tensor(0.5))
    torch.testing.assert_close(losses.smoothness_loss(ramp, steep), torch.tensor(0.5 * np.exp(-1), dtype=torch.float32))
    turned = losses.smoothness_loss(ramp.transpose(2, 3), steep.transpose(2, 3))
    torch.testing.assert_close(turned, losses.smoothness_loss(ramp, steep))


@given(seeds, st.floats(0.1, 10))
@few
def test_flip_consistency_is_zero_for_a_mirrored_disparity_of_any_scale(seed, scale):
    disparity = uniform(2, 1, 8, 9, seed=seed) + 0.1
    assert losses.flip_consistency_loss(disparity, scale * disparity.flip(3)) < 1e-6
    assert losses.flip_consistency_loss(disparity, disparity) > 1e-3
    hand = torch.tensor([[[[1.0, 3.0]]]])  # 0.5 and 1.5 of its mean, against 1.5 and 0.5
    assert losses.flip_consistency_loss(hand, hand).item() == pytest.approx(1.0)


# The whole of stage 1


def wall(shift: float = 0.0) -> Tensor:
    """A smooth wall parallel to the image plane, shifted to the right by some pixels."""
    x, y = torch.arange(32.0) - shift, torch.arange(24.0)[:, None]
    waves = [torch.sin(0.5 * x + y / 4), torch.cos(0.3 * x - y / 5), torch.sin(0.4 * x) * torch.cos(y / 3)]
    return (0.5 + 0.4 * torch.stack(waves))[None]


CAMERA = torch.tensor([[[40.0, 0.0, 15.5], [0.0, 40.0, 11.5], [0.0, 0.0, 1.0]]])
RIGHT = pose_matrix(torch.zeros(1, 3), torch.tensor([[0.1, 0.0, 0.0]]))  # 40 px · 0.1 / depth 2 = 2 pixels to the right


def disparity_at(depth: float) -> list[Tensor]:
    return [depth_to_disparity(torch.full((1, 1, 24 >> s, 32 >> s), depth)) for s in range(3)]


def test_reprojection_undoes_the_camera_motion():
    warped = losses.reproject(wall(shift=2), disparity_at(2.0)[0], RIGHT, CAMERA)
    torch.testing.assert_close(warped[..., :-2], wall()[..., :-2], atol=1e-4, rtol=0)
    warped = losses.reproject(wall(shift=-2), disparity_at(2.0)[0], invert_pose(RIGHT), CAMERA)
    torch.testing.assert_close(warped[..., 2:], wall()[..., 2:], atol=1e-4, rtol=0)
    still = losses.reproject(wall(), disparity_at(5.0)[0], torch.eye(4)[None], CAMERA)
    torch.testing.assert_close(still, wall(), atol=1e-4, rtol=0)


def test_what_lies_outside_of_the_neighbor_is_not_black():
    far = pose_matrix(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    warped = losses.reproject(torch.ones(1, 3, 24, 32), disparity_at(2.0)[0], far, CAMERA)
    torch.testing.assert_close(warped, torch.ones_like(warped))


def test_the_true_depth_has_the_least_loss():
    views, poses = [wall(2), wall(-2)], [RIGHT, invert_pose(RIGHT)]
    loss = {
        depth: losses.self_supervised_depth_loss(wall(), views, disparity_at(depth), poses, CAMERA).item()
        for depth in (1.0, 1.6, 2.0, 2.6, 5.0)
    }
    assert loss[1.0] > loss[1.6] > loss[2.0] < loss[2.6] < loss[5.0]
    assert loss[2.0] < 1e-4


def test_stage_one_reaches_every_scale_the_pose_and_the_camera():
    disparities = [uniform(1, 1, 24 >> s, 32 >> s, seed=s).mul(0.05).add(0.02).requires_grad_() for s in range(3)]
    twist = torch.tensor([[0.01, 0.02, 0.01, 0.1, 0.02, 0.05]], requires_grad=True)
    camera = CAMERA.clone().requires_grad_()
    T = pose_matrix(twist[:, :3], twist[:, 3:])
    loss = losses.SelfSupDepthLoss(smoothness=0.0, automask=False)  # smoothness needs no warp to reach the disparities
    loss(wall(), [wall(2), wall(-2)], disparities, [T, invert_pose(T)], camera).backward()
    for leaf in (*disparities, twist, camera):
        assert leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0
    assert (twist.grad != 0).all()


def test_stage_one_is_the_mean_over_scales_of_its_parts():
    views, poses, cameras = [wall(2), wall(-1)], [RIGHT, invert_pose(RIGHT)], [CAMERA, 1.1 * CAMERA]
    disparities = [uniform(1, 1, 24, 32, seed=s) * 0.05 + 0.02 for s in range(3)]
    for automask in (True, False):
        expected = 0.0
        for s, disparity in enumerate(disparities):
            warped = [losses.reproject(v, disparity, T, K) for v, T, K in zip(views, poses, cameras, strict=True)]
            expected += losses.reprojection_loss(wall(), warped, views if automask else None)
            expected += 0.1 / 2**s * losses.smoothness_loss(disparity, wall())
        loss = losses.SelfSupDepthLoss(smoothness=0.1, automask=automask)(wall(), views, disparities, poses, cameras)
        torch.testing.assert_close(loss, expected / 3)


def test_smaller_images_add_their_errors():
    small = [F.avg_pool2d(image, 2) for image in (wall(), wall(2), wall(-1))]
    options = dict(poses=[torch.eye(4)[None]] * 2, K=CAMERA, smoothness=0.0, automask=False)  # a warp of nothing
    both = losses.self_supervised_depth_loss(
        wall(), [wall(2), wall(-1)], disparity_at(2.0)[:1], num_image_scales=2, **options
    )
    full = losses.reprojection_loss(wall(), [wall(2), wall(-1)])
    torch.testing.assert_close(both, full + losses.reprojection_loss(small[0], small[1:]), atol=1e-4, rtol=0)


def test_stage_one_wants_a_pose_per_neighbor():
    with pytest.raises(ValueError, match="shorter"):
        losses.self_supervised_depth_loss(wall(), [wall(1), wall(2)], disparity_at(2.0), [RIGHT], CAMERA)
