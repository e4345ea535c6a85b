"""Laws of the adversarial and key-point losses, and of all Modules with a weight; hand-made values as oracles."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthaware import losses

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None, derandomize=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


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
