"""Laws of backward warping."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthaware.geometry import coordinate_grid
from depthaware.warp import resize, warp

seeds = st.integers(0, 10_000)
sides = st.integers(2, 20)
few = settings(max_examples=25, deadline=None, derandomize=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identity(height: int, width: int, batch: int = 1) -> Tensor:
    return coordinate_grid(height, width, dtype=torch.float64).expand(batch, -1, -1, -1)


@given(seeds, sides, sides)
@few
def test_the_identity_deformation_is_the_identity(seed, height, width):
    image = uniform(2, 3, height, width, seed=seed)
    torch.testing.assert_close(warp(image, identity(height, width, 2)), image, atol=1e-12, rtol=0)
    single = warp(image.float(), identity(height, width, 2).float())
    torch.testing.assert_close(single, image.float(), atol=1e-5, rtol=0)


@given(seeds, sides, sides, sides, sides)
@few
def test_the_identity_survives_the_resize_of_the_deformation(seed, height, width, h, w):
    image = uniform(1, 2, height, width, seed=seed)
    torch.testing.assert_close(warp(image, identity(h, w)), image, atol=1e-12, rtol=0)


def test_the_other_convention_is_not_the_identity_and_is_half_a_pixel_off():
    """On a ramp, align_corners=False reads between the pixels: (w x / (w - 1) - 1/2) instead of x."""
    ramp = torch.arange(8.0).double().expand(1, 1, 4, 8)
    seen = warp(ramp, identity(4, 8), align_corners=False, padding_mode="border")[0, 0, 1]
    torch.testing.assert_close(seen, (8 / 7 * torch.arange(8.0).double() - 0.5).clamp(0, 7))


@given(seeds, st.integers(-3, 3), st.integers(-3, 3))
@few
def test_whole_steps_are_a_roll_with_nothing_rolled_in(seed, dx, dy):
    image = uniform(1, 2, 9, 11, seed=seed)
    shift = torch.tensor([2 * dx / 10, 2 * dy / 8], dtype=torch.float64)
    expected = image.roll((-dy, -dx), dims=(2, 3))  # output(z) = image(z + shift)
    rows = slice(max(-dy, 0), 9 - max(dy, 0))
    columns = slice(max(-dx, 0), 11 - max(dx, 0))
    seen = warp(image, identity(9, 11) + shift)
    torch.testing.assert_close(seen[..., rows, columns], expected[..., rows, columns], atol=1e-12, rtol=0)
    outside = torch.ones(9, 11, dtype=torch.bool)
    outside[rows, columns] = False
    assert (seen[..., outside].abs() < 1e-12).all()


def test_border_padding_repeats_the_edge():
    image = uniform(1, 1, 5, 5)
    seen = warp(image, identity(5, 5) + torch.tensor([10.0, 0]).double(), padding_mode="border")
    torch.testing.assert_close(seen, image[..., -1:].expand_as(image))


@given(seeds)
@few
def test_warping_twice_is_warping_by_the_composition(seed):
    """Exact for affine maps of an affine image, which bilinear sampling reproduces."""
    slope, A, B = (0.3 * (uniform(2, 2, seed=seed + i) - 0.5) for i in range(3))
    A, B = (torch.eye(2).double() * 0.5 + matrix for matrix in (A, B))  # contract, so that nothing leaves the image
    grid = identity(8, 10)
    image = (grid @ slope).permute(0, 3, 1, 2)
    twice = warp(warp(image, grid @ A), grid @ B)
    torch.testing.assert_close(twice, warp(image, grid @ (B @ A)), atol=1e-12, rtol=0)


@given(seeds)
@few
def test_warping_is_linear_in_the_image_and_keeps_its_range(seed):
    x, y = uniform(1, 2, 6, 7, seed=seed), uniform(1, 2, 6, 7, seed=seed + 1)
    deformation = 3 * uniform(1, 6, 7, 2, seed=seed + 2) - 1.5
    torch.testing.assert_close(
        warp(2 * x - 3 * y, deformation), 2 * warp(x, deformation) - 3 * warp(y, deformation), atol=1e-12, rtol=0
    )
    seen = warp(x, deformation)
    assert seen.min() >= 0 and seen.max() <= x.max() + 1e-12


def test_gradients_reach_image_and_deformation():
    image = uniform(1, 2, 4, 5).requires_grad_()
    deformation = (1.6 * uniform(1, 3, 3, 2, seed=1) - 0.8).requires_grad_()  # also through the resize
    assert torch.autograd.gradcheck(warp, (image, deformation))


@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (2, 4, 4, 3), (2, 2, 4, 4), (2, 4, 2)])
def test_what_is_no_deformation_of_this_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(2, h, w, 2\).*\(2, 3, 4, 4\).*got"):
        warp(torch.ones(2, 3, 4, 4), torch.zeros(shape))


def test_resize_leaves_a_fitting_size_alone():
    feature = uniform(1, 2, 4, 6)
    assert resize(feature, feature.shape[-2:], True) is feature
    assert resize(feature, (8, 3), True).shape == (1, 2, 8, 3)
