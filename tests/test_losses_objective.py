"""Laws of the objective of stage 2: eq. 10 is the weighted sum of the losses that it is made of."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from depthaware import Keypoints, MultiScaleDiscriminator
from depthaware.losses import (
    DaGANLoss,
    PerceptualLoss,
    RandomTransform,
    discriminator_loss,
    equivariance_loss,
    feature_matching_loss,
    keypoint_distance_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)

WEIGHTS = dict(perceptual=2.0, adversarial=3.0, feature_matching=5.0, equivariance=7.0, keypoint_distance=11.0)


class Out(NamedTuple):
    """The two fields of a model's output that the objective reads."""

    prediction: Tensor
    kp_driving: Keypoints


class Features(nn.Module):
    """Two feature maps of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.conv(image)
        return [x, x.relu()]


@pytest.fixture
def case() -> tuple:
    torch.manual_seed(0)
    value, jacobian = 0.5 * torch.rand(2, 4, 2), torch.eye(2) + 0.1 * torch.rand(2, 4, 2, 2)
    kp = Keypoints(value.requires_grad_(), jacobian.requires_grad_())
    out = Out(torch.rand(2, 3, 64, 64).requires_grad_(), kp)
    transformed = Keypoints(0.5 * torch.rand(2, 4, 2), torch.eye(2).expand(2, 4, 2, 2))
    return out, torch.rand(2, 3, 64, 64), transformed, RandomTransform.sample(2)


@pytest.fixture
def discriminator() -> MultiScaleDiscriminator:
    torch.manual_seed(1)
    return MultiScaleDiscriminator(4, block_expansion=4, max_features=16)


def by_hand(case: tuple, discriminator: nn.Module, features: nn.Module) -> dict[str, Tensor]:
    """The terms without weights, from the losses themselves."""
    out, driving, transformed, transform = case
    kp = Keypoints(out.kp_driving.value.detach())
    real, generated = discriminator(driving, kp), discriminator(out.prediction, kp)
    return {
        "perceptual": PerceptualLoss(features, weight=1.0)(out.prediction, driving),
        "adversarial": lsgan_generator_loss(generated),
        "feature_matching": feature_matching_loss(real, generated),
        "equivariance": sum(equivariance_loss(out.kp_driving, transformed, transform)),
        "keypoint_distance": keypoint_distance_loss(out.kp_driving.value),
    }


def test_each_term_is_its_loss_times_its_weight_and_the_total_is_their_sum(case, discriminator):
    features = Features()
    terms = DaGANLoss(features, **WEIGHTS)(*case, discriminator)
    wanted = by_hand(case, discriminator, features)
    assert list(terms.present()) == list(wanted)
    for name, term in terms.present().items():
        torch.testing.assert_close(term, WEIGHTS[name] * wanted[name])
    torch.testing.assert_close(terms.total, sum(WEIGHTS[name] * wanted[name] for name in wanted))


def test_the_default_weights_are_those_of_section_4_2(case, discriminator):
    features = Features()
    terms, wanted = DaGANLoss(features)(*case, discriminator), by_hand(case, discriminator, features)
    for name, weight in dict(perceptual=10, adversarial=1, equivariance=10, keypoint_distance=10).items():
        torch.testing.assert_close(getattr(terms, name), weight * wanted[name])


def test_terms_without_their_network_are_left_out(case):
    terms = DaGANLoss()(*case)
    assert terms.perceptual is terms.adversarial is terms.feature_matching is None
    assert list(terms.present()) == ["equivariance", "keypoint_distance"]
    torch.testing.assert_close(terms.total, terms.equivariance + terms.keypoint_distance)


def test_key_points_without_jacobians_have_the_value_part_of_eq_12_alone(case):
    out, driving, transformed, transform = case
    plain = Out(out.prediction, Keypoints(out.kp_driving.value))
    found = DaGANLoss()(plain, driving, transformed, transform).equivariance
    error = (out.kp_driving.value - transform.warp_points(transformed.value)).abs().mean()
    torch.testing.assert_close(found, 10 * error)


def test_each_side_of_the_game_gets_its_own_gradients(case, discriminator):
    out, driving, *_ = case
    DaGANLoss()(*case, discriminator).total.backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert out.prediction.grad.any() and out.kp_driving.value.grad.any()
    out.prediction.grad = out.kp_driving.value.grad = None
    discriminator_loss(discriminator, out, driving).backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert out.prediction.grad is None and out.kp_driving.value.grad is None


def test_the_discriminators_loss_is_that_of_two_passes(case, discriminator):
    out, driving, *_ = case
    kp = Keypoints(out.kp_driving.value)
    wanted = lsgan_discriminator_loss(discriminator(driving, kp), discriminator(out.prediction, kp))
    torch.testing.assert_close(discriminator_loss(discriminator, out, driving), wanted)


def test_the_discriminators_loss_is_0_for_right_scores_and_2_for_the_opposite(case):
    out, driving, *_ = case

    def perfect(inputs: Tensor, kp: Keypoints) -> list:
        real = torch.stack([(image == driving).flatten(1).all(1).any() for image in inputs])
        return [(real.float().view(-1, 1, 1, 1), [])]

    assert discriminator_loss(perfect, out, driving) == 0
    assert discriminator_loss(lambda *inputs: [(1 - p, f) for p, f in perfect(*inputs)], out, driving) == 2


def test_images_of_other_shapes_are_one_line(case):
    out, driving, *rest = case
    expected = r"^driving: expected the shape of the prediction \(2, 3, 64, 64\), got \(2, 3, 32, 32\)$"
    with pytest.raises(ValueError, match=expected):
        DaGANLoss()(out, driving[..., ::2, ::2], *rest)


def test_a_frozen_part_of_the_discriminator_stays_frozen(case, discriminator):
    frozen, *_ = discriminator.parameters()
    frozen.requires_grad_(False)
    out, driving, transformed, transform = case
    DaGANLoss(None)(out, driving, transformed, transform, discriminator)
    assert not frozen.requires_grad and all(other.requires_grad for other in list(discriminator.parameters())[1:])
