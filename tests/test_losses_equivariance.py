"""Laws of random transforms and of the equivariance loss; autograd as oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthaware import losses
from depthaware.geometry import coordinate_grid
from depthaware.keypoints import Keypoints, gaussian_heatmap
from depthaware.losses import RandomTransform

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def transform(seed: int = 0, batch: int = 2, **options: float) -> RandomTransform:
    drawn = RandomTransform.sample(batch, generator=torch.Generator().manual_seed(seed), **options)
    return RandomTransform(*(tensor.double() for tensor in drawn))


def moved_keypoints(t: RandomTransform, seed: int) -> tuple[Keypoints, Keypoints]:
    """Key points that follow the transform exactly: p = T(p'), J = dT/dz(p') J', the derivative by autograd."""
    value = uniform(2, 5, 2, seed=seed).double() * 2 - 1
    frames = torch.eye(2) + 0.3 * uniform(2, 5, 2, 2, seed=seed + 1).double()
    return Keypoints(t.warp_points(value), autograd_jacobian(t, value) @ frames), Keypoints(value, frames)


def autograd_jacobian(t: RandomTransform, points: Tensor) -> Tensor:
    full = torch.autograd.functional.jacobian(t.warp_points, points)  # (B, N, 2, B, N, 2)
    return torch.einsum("bnibnj->bnij", full)


@given(seeds)
@few
def test_analytic_jacobian_is_autograds(seed):
    t = transform(seed, sigma_tps=0.05)
    points = uniform(2, 6, 2, seed=seed).double() * 2.4 - 1.2
    points[:, 0] = t.centers[seed % 25]  # where r² log r is singular
    torch.testing.assert_close(t.jacobian(points), autograd_jacobian(t, points), atol=1e-9, rtol=0)


def test_gradients_are_finite_at_control_points():
    t = RandomTransform(*(tensor.float() for tensor in transform()))
    points = t.centers.expand(2, -1, -1).clone().requires_grad_()
    (t.warp_points(points).sum() + t.jacobian(points).sum()).backward()
    assert points.grad.isfinite().all()


def test_the_kernel_is_the_thin_plates():
    weights = torch.zeros(1, 25, 2)
    weights[0, 12] = torch.tensor([1.0, -2.0])  # the control point at (0, 0)
    t = RandomTransform(torch.eye(2, 3)[None], coordinate_grid(5, 5).flatten(0, 1), weights)
    z = torch.tensor([[[0.6, 0.8], [0.3, -0.4], [0.0, 0.0]]])  # r = 1, 1/2 and 0
    bend = torch.tensor([0.0, 0.25 * np.log(0.5), 0.0])[None, :, None] * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(t.warp_points(z), (z + bend).float())


def test_without_spread_the_transform_is_the_identity():
    t = transform(sigma_affine=0.0, sigma_tps=0.0)
    points, image = uniform(2, 7, 2).double() * 2 - 1, uniform(2, 3, 12, 16)
    torch.testing.assert_close(t.warp_points(points), points)
    torch.testing.assert_close(t.jacobian(points), torch.eye(2).double().expand(2, 7, 2, 2))
    torch.testing.assert_close(t.warp_image(image), image, atol=1e-5, rtol=0)


def test_draws_follow_the_generator_and_have_the_spread_asked_for():
    one, two, other = transform(3), transform(3), transform(4)
    assert torch.equal(one.affine, two.affine) and torch.equal(one.weights, two.weights)
    assert not torch.equal(one.affine, other.affine)
    many = transform(batch=2000)
    assert abs((many.affine - torch.eye(2, 3)).std() - 0.05) < 0.002
    assert abs(many.weights.std() - 0.005) < 0.0002
    assert many.weights.shape == (2000, 25, 2)


def test_the_image_moves_as_the_points_do():
    """A blob painted at T(p') must be seen at p' in the transformed image."""
    t = transform(5, sigma_affine=0.15)
    expected = torch.tensor([[[0.3, -0.2]], [[-0.4, 0.1]]]).double()
    image = gaussian_heatmap(t.warp_points(expected), (65, 65), variance=0.01)
    blob = t.warp_image(image)
    found = (blob[..., None] * coordinate_grid(65, 65).double()).sum((2, 3)) / blob.sum((2, 3))[..., None]
    assert (t.warp_points(expected) - expected).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@given(seeds)
@few
def test_equivariance_is_zero_for_key_points_that_follow_exactly(seed):
    t = transform(seed)
    kp, kp_transformed = moved_keypoints(t, seed)
    loss = losses.equivariance_loss(kp, kp_transformed, t)
    assert loss.value < 1e-12 and loss.jacobian < 1e-9
    # Not for those that stay, and the other way round is another transform.
    wrong = losses.equivariance_loss(kp_transformed, kp, t)
    assert wrong.value > 1e-3 and wrong.jacobian > 1e-3
    assert losses.equivariance_loss(kp, Keypoints(kp_transformed.value), t).jacobian == 0


def test_equivariance_by_hand():
    t = RandomTransform(torch.tensor([[[2.0, 0.0, 0.5], [0.0, 4.0, 0.0]]]), torch.zeros(1, 2), torch.zeros(1, 1, 2))
    kp = Keypoints(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[[1.0, 1.0], [0.0, 1.0]]]]))
    kp_transformed = Keypoints(torch.tensor([[[0.25, 0.25]]]), torch.eye(2).view(1, 1, 2, 2))
    loss = losses.equivariance_loss(kp, kp_transformed, t)
    # T(p') = (1, 1), off by (0.5, 0); J⁻¹ (dT/dz) J' = [[2, -4], [0, 4]], off the identity by 1 + 4 + 0 + 3.
    assert loss.value.item() == 0.25 and loss.jacobian.item() == 2.0
    assert losses.EquivarianceLoss(value_weight=2.0, jacobian_weight=8.0)(kp, kp_transformed, t).item() == 16.5


def test_equivariance_reaches_both_detections():
    t = transform()
    leaves = [tensor.clone().requires_grad_() for kp in moved_keypoints(t, 1) for tensor in kp]
    with torch.no_grad():
        for leaf in leaves:
            leaf += 0.1 * torch.rand(leaf.shape, generator=torch.Generator().manual_seed(7))
    loss = losses.equivariance_loss(Keypoints(*leaves[:2]), Keypoints(*leaves[2:]), t)
    gradients = torch.autograd.grad(loss.value + loss.jacobian, leaves, retain_graph=True)
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)
    (bent,) = torch.autograd.grad(loss.jacobian, leaves[2])  # through where dT/dz is taken
    assert bent.abs().max() > 0
    with pytest.raises(ValueError, match="key points of one shape"):
        losses.equivariance_loss(Keypoints(torch.zeros(2, 5, 2)), Keypoints(torch.zeros(2, 1, 2)), t)
