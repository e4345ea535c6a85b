"""Laws of the losses; hand-made values and foreign implementations as oracles."""

import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from depthaware import losses
from depthaware.geometry import coordinate_grid, depth_to_disparity, invert_pose, pose_matrix
from depthaware.keypoints import Keypoints, gaussian_heatmap
from depthaware.losses import RandomTransform

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
    np.testing.assert_allclose(losses.ssim(x, y)[inner].numpy(), expected[1:-1, 1:-1], atol=1e-9)


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
    structure = ((1 - losses.ssim(x, y)) / 2).mean(1, keepdim=True)
    torch.testing.assert_close(losses.photometric_error(x, y, alpha=0.0), l1)
    torch.testing.assert_close(losses.photometric_error(x, y), 0.8 * structure + 0.2 * l1)


def test_photometric_error_grows_with_the_damage():
    x, noise = uniform(1, 3, 32, 32), uniform(1, 3, 32, 32, seed=1) - 0.5
    errors = [losses.photometric_error((x + s * noise).clamp(0, 1), x).mean() for s in (0.1, 0.3, 0.9)]
    assert errors[0] < errors[1] < errors[2]


def test_images_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.photometric_error(uniform(1, 3, 8, 8), uniform(2, 3, 8, 8))
    with pytest.raises(ValueError, match="one shape"):
        losses.perceptual_loss(uniform(1, 3, 8, 8), uniform(2, 3, 8, 8), lambda x: [x])
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


def test_smaller_pictures_add_their_errors():
    small = [F.avg_pool2d(image, 2) for image in (wall(), wall(2), wall(-1))]
    options = dict(poses=[torch.eye(4)[None]] * 2, K=CAMERA, smoothness=0.0, automask=False)  # a warp of nothing
    both = losses.self_supervised_depth_loss(wall(), [wall(2), wall(-1)], disparity_at(2.0)[:1], sizes=2, **options)
    full = losses.reprojection_loss(wall(), [wall(2), wall(-1)])
    torch.testing.assert_close(both, full + losses.reprojection_loss(small[0], small[1:]), atol=1e-4, rtol=0)


def test_stage_one_wants_a_pose_per_neighbor():
    with pytest.raises(ValueError, match="shorter"):
        losses.self_supervised_depth_loss(wall(), [wall(1), wall(2)], disparity_at(2.0), [RIGHT], CAMERA)


# Perceptual


@pytest.fixture(scope="module")
def vgg() -> losses.VGG19Features:
    torch.manual_seed(0)
    return losses.VGG19Features()


def torchvision_layers(vgg: nn.Module) -> nn.Sequential:
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])[:30]
    layers.load_state_dict(vgg.layers.state_dict())
    return layers


def test_vgg_taps_are_the_first_relu_of_each_stage(vgg):
    """Oracle: torchvision's layers; a tap is the first ReLU since the start or the last pooling."""
    image = uniform(1, 3, 32, 32)
    x = torchvision.transforms.functional.normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    taps, fresh = [], True
    for layer in torchvision_layers(vgg):
        x = layer(x.clone())
        if isinstance(layer, nn.ReLU) and fresh:
            taps.append(x.clone())
        fresh = isinstance(layer, nn.MaxPool2d) or (fresh and not isinstance(layer, nn.ReLU))
    assert [tap.shape[1] for tap in taps] == [64, 128, 256, 512, 512]
    for ours, theirs in zip(vgg(image), taps, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_perceptual_loss_is_zero_at_identity_and_reaches_the_prediction_alone(vgg):
    loss = losses.PerceptualLoss(vgg, scales=[1.0, 0.5])
    prediction, target = uniform(1, 3, 32, 32).requires_grad_(), uniform(1, 3, 32, 32, seed=1).requires_grad_()
    assert loss(prediction, prediction) == 0
    loss(prediction, target).backward()
    assert prediction.grad.isfinite().all() and prediction.grad.abs().max() > 0
    assert target.grad is None and all(parameter.grad is None for parameter in vgg.parameters())


class Doubling(nn.Module):
    """A network whose features can be computed by hand; dropout shows which mode it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image, self.dropout(self.factor * image)]


def test_perceptual_loss_by_hand():
    prediction, target = torch.full((1, 3, 8, 8), 0.75), torch.full((1, 3, 8, 8), 0.5)
    assert losses.perceptual_loss(prediction, target, Doubling().eval()).item() == 0.25 + 0.5
    assert losses.PerceptualLoss(Doubling(), scales=[1.0])(prediction, target).item() == 7.5
    assert losses.PerceptualLoss(Doubling(), weight=2.0, scales=[1.0, 1.0])(prediction, target).item() == 3.0
    # Noise averages out at the coarse scale, a shift does not.
    noisy = target + torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 4
    fine, coarse = (losses.PerceptualLoss(Doubling(), scales=[scale])(noisy, target) for scale in (1.0, 0.25))
    assert coarse < fine / 2


def test_the_feature_network_is_frozen_unsaved_and_follows_to():
    network = Doubling()
    loss = losses.PerceptualLoss(network, scales=[1.0]).train()
    assert not network.training and not network.factor.requires_grad
    assert not list(loss.parameters()) and not loss.state_dict()
    loss.to(torch.float64)
    assert network.factor.dtype == torch.float64


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_vgg_weights_from_a_local_file(vgg, tmp_path, suffix):
    weights = {f"features.{key}": tensor for key, tensor in vgg.layers.state_dict().items()}
    weights["classifier.0.bias"] = torch.zeros(3)  # real files hold more than is needed
    path = tmp_path / f"vgg19.{suffix}"
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(weights, path)
    torch.manual_seed(1)
    loaded = losses.VGG19Features.from_file(path)
    torch.testing.assert_close(loaded.layers.state_dict(), vgg.layers.state_dict(), atol=0, rtol=0)


def test_weights_of_another_network_are_refused(tmp_path):
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: expected the weights of VGG-19.*features\.28\.weight"):
        losses.VGG19Features.from_file(tmp_path / "other.safetensors")


def test_only_from_timm_asks_for_pretrained_weights(vgg, monkeypatch):
    asked, create_model = [], timm.create_model

    def fake(name, *, pretrained, **options):
        asked.append((name, pretrained))
        if not pretrained:
            return create_model(name, pretrained=False, **options)
        model = nn.Module()
        model.features = torchvision_layers(vgg)
        return model

    monkeypatch.setattr(timm, "create_model", fake)
    losses.PerceptualLoss(losses.VGG19Features())
    assert [pretrained for _, pretrained in asked] == [False]
    loaded = losses.VGG19Features.from_timm("vgg19.tv_in1k")
    assert asked[1:] == [("vgg19.tv_in1k", False), ("vgg19.tv_in1k", True)]
    torch.testing.assert_close(loaded.layers.state_dict(), vgg.layers.state_dict(), atol=0, rtol=0)


# Adversarial


def outputs(*predictions: float, feature: float = 0.0) -> list[tuple[Tensor, list[Tensor]]]:
    return [(torch.full((2, 1, 3, 3), p), [torch.full((2, 4, 5, 5), feature), torch.zeros(1)]) for p in predictions]


def test_least_squares_losses_by_hand():
    assert losses.lsgan_generator_loss(outputs(1.0, 1.0)) == 0
    assert losses.lsgan_generator_loss(outputs(0.5, 3.0)) == 0.25 + 4.0
    assert losses.lsgan_discriminator_loss(outputs(1.0), outputs(0.0)) == 0
    assert losses.lsgan_discriminator_loss(outputs(0.5), outputs(3.0)) == 0.25 + 9.0


@given(seeds)
@few
def test_generator_and_discriminator_pull_against_each_other(seed):
    prediction = uniform(1, 1, 4, 4, seed=seed).requires_grad_()
    fake = [(prediction, [])]
    (up,) = torch.autograd.grad(losses.lsgan_generator_loss(fake), prediction)
    (down,) = torch.autograd.grad(losses.lsgan_discriminator_loss(outputs(1.0), fake), prediction)
    assert (up <= 0).all() and (down >= 0).all()


def test_feature_matching_by_hand_and_towards_the_generated_alone():
    assert losses.feature_matching_loss(outputs(0.0, 0.0, feature=1.0), outputs(0.0, 0.0, feature=0.25)) == 1.5
    real, generated = uniform(1, 2, 3, 3).requires_grad_(), uniform(1, 2, 3, 3, seed=1).requires_grad_()
    prediction = torch.zeros(1)
    losses.feature_matching_loss([(prediction, [real])], [(prediction, [generated])]).backward()
    assert real.grad is None
    torch.testing.assert_close(generated.grad, (generated - real).sign() / 18)
    with pytest.raises(ValueError, match="shorter"):
        losses.feature_matching_loss(outputs(0.0, 0.0), outputs(0.0))


# Equivariance


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
    points[:, 0] = t.centers[seed % 25]  # where r² log r has its trap
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


def test_the_picture_moves_as_the_points_do():
    """A blob painted at T(p') must be seen at p' in the transformed picture."""
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


# Key-point distance


CLOSE = torch.tensor([[[0.0, 0.0], [0.05, -0.05], [0.9, 0.9]]])  # L1 distances 0.1, 1.8 and 1.8


def test_key_point_distance_by_hand():
    torch.testing.assert_close(losses.keypoint_distance_loss(CLOSE), torch.tensor(0.5 / 3))
    assert losses.keypoint_distance_loss(CLOSE, threshold=0.05) == 0
    paper = {t: losses.keypoint_distance_loss(CLOSE, threshold=t, form="paper").item() for t in (0.05, 0.2, 2.0)}
    assert paper == {0.05: 0.0, 0.2: 4.0, 2.0: 12.0}  # 2 for each ordered pair too near
    batch = torch.cat((CLOSE, 10 * CLOSE))
    assert losses.keypoint_distance_loss(batch, form="paper") == 2.0
    exactly = torch.tensor([[[0.0, 0.0], [0.25, 0.0]]])
    assert losses.keypoint_distance_loss(exactly, threshold=0.25, form="paper") == 2.0  # sign(0) = 0, so 1 a pair


@given(seeds, st.integers(2, 15))
@few
def test_the_two_forms_have_one_scale(seed, number):
    value = uniform(2, number, 2, seed=seed) - 0.5
    pairs = 2 * number * (number - 1)
    hinge, paper = (losses.keypoint_distance_loss(value, form=form) for form in ("hinge", "paper"))
    assert 0 <= pairs * hinge <= paper + 1e-4
    together, apart = torch.zeros_like(value), 100 * torch.arange(number)[:, None].expand(2, -1, 2).float()
    for points in (together, apart):
        hinge, paper = (losses.keypoint_distance_loss(points, form=form) for form in ("hinge", "paper"))
        torch.testing.assert_close(pairs * hinge, paper)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(losses.keypoint_distance_loss(value[:, order]), losses.keypoint_distance_loss(value))


def test_the_hinge_pushes_apart_and_the_printed_form_does_not():
    value = CLOSE.clone().requires_grad_()
    losses.keypoint_distance_loss(value).backward()
    stepped = CLOSE - 0.01 * value.grad
    before, after = ((v[:, 0] - v[:, 1]).abs().sum() for v in (CLOSE, stepped))
    assert after > before
    assert value.grad[0, 2].abs().max() == 0  # far from everybody
    value.grad = None
    losses.keypoint_distance_loss(value, form="paper").backward()
    assert value.grad.abs().max() == 0


def test_key_point_distance_refuses_nonsense():
    with pytest.raises(ValueError, match="'hinge' or 'paper', got 'sign'"):
        losses.keypoint_distance_loss(CLOSE, form="sign")
    with pytest.raises(ValueError, match="at least 2"):
        losses.keypoint_distance_loss(CLOSE[:, :1])


# Modules

IMAGE, OTHER = uniform(1, 3, 16, 16), uniform(1, 3, 16, 16, seed=1)


@pytest.mark.parametrize(
    ("module", "function", "weight", "options", "inputs"),
    [
        ("ReprojectionLoss", "reprojection_loss", 1.0, {"alpha": 0.5}, (IMAGE, [OTHER])),
        ("SmoothnessLoss", "smoothness_loss", 1e-3, {}, (IMAGE[:, :1], OTHER)),
        ("LSGANGeneratorLoss", "lsgan_generator_loss", 1.0, {}, (outputs(0.3),)),
        ("LSGANDiscriminatorLoss", "lsgan_discriminator_loss", 1.0, {}, (outputs(0.3), outputs(0.2))),
        ("FeatureMatchingLoss", "feature_matching_loss", 10.0, {}, (outputs(0.0, feature=1.0), outputs(0.0))),
        ("KeypointDistanceLoss", "keypoint_distance_loss", 10.0, {}, (CLOSE,)),
        ("KeypointDistanceLoss", "keypoint_distance_loss", 10.0, {"form": "paper", "threshold": 2.0}, (CLOSE,)),
    ],
)
def test_a_module_is_its_function_with_the_papers_weight(module, function, weight, options, inputs):
    loss = getattr(losses, module)(**json.loads(json.dumps(options)))(*inputs)
    assert loss.shape == () and loss > 0
    torch.testing.assert_close(loss, weight * getattr(losses, function)(*inputs, **options))
    if weight != 1 or "LSGAN" in module:
        torch.testing.assert_close(getattr(losses, module)(weight=2 * weight, **options)(*inputs), 2 * loss)


def test_public_names_exist_once():
    assert len(losses.__all__) == len(set(losses.__all__))
    assert all(hasattr(losses, name) for name in losses.__all__)
