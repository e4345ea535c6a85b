"""Laws of the direct alignment, on images of known motion."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from depthaware.alignment import align_frames
from depthaware.geometry import axis_angle_to_rotation, backproject, coordinate_grid, pose_matrix, project
from depthaware.warp import warp

SIZE = 64
K = torch.tensor([[[100.0, 0.0, 31.5], [0.0, 100.0, 31.5], [0.0, 0.0, 1.0]]])
seeds = st.integers(0, 10_000)
few = settings(max_examples=10, deadline=None, derandomize=True)


def dome(relief: float = 0.15) -> Tensor:
    """Depth of something round, one unit away."""
    return 1 - relief * torch.exp(-2 * coordinate_grid(SIZE, SIZE).square().sum(-1))[None, None]


def texture(seed: int) -> Tensor:
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)


def motion(seed: int, turn: float = 0.1) -> Tensor:
    """A turn around the middle of the dome, and a little sway."""
    random = torch.rand(2, 1, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    R = axis_angle_to_rotation(turn * random[0])
    middle = torch.tensor([[0.0], [0.0], [0.9]])
    T = torch.eye(4).repeat(1, 1, 1)
    T[:, :3, :3], T[:, :3, 3:] = R, middle - R @ middle + 0.02 * random[1][..., None]
    return T


def frames(seed: int, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A target, a neighbor into which its pixels moved, and the motion."""
    neighbor, T = texture(seed), motion(seed)
    return warp(neighbor, project(backproject(depth, K), K, T), padding_mode="border"), neighbor, T


def degrees_between(a: Tensor, b: Tensor) -> float:
    return Rotation.from_matrix((a[0, :3, :3].mT @ b[0, :3, :3]).numpy()).magnitude() * 57.3


@given(seeds)
@few
def test_a_known_motion_is_found(seed):
    target, neighbor, T = frames(seed, dome())
    found = align_frames(target, neighbor, dome(), K)
    assert degrees_between(found, T) < 1.0
    assert (found - T)[0, :3, 3].abs().max() < 0.02


@given(seeds)
@few
def test_motion_in_the_middle_counts_and_a_static_background_does_not(seed):
    target, neighbor, T = frames(seed, dome())
    still = coordinate_grid(SIZE, SIZE).abs().amax(-1) > 0.6
    room = texture(seed + 1)
    found = align_frames(torch.where(still, room, target), torch.where(still, room, neighbor), dome(), K)
    assert degrees_between(found, T) < 0.5 * degrees_between(torch.eye(4)[None], T) + 1


@given(seeds)
@few
def test_frames_that_are_alike_did_not_move(seed):
    image = texture(seed)
    torch.testing.assert_close(align_frames(image, image, dome(), K), torch.eye(4)[None])


@given(seeds, st.floats(0.1, 10))
@few
def test_the_translation_is_in_the_unit_of_depth(seed, unit):
    target, neighbor, _ = frames(seed, dome())
    one, other = (align_frames(target, neighbor, scale * dome(), K) for scale in (1.0, unit))
    torch.testing.assert_close(other[:, :3, :3], one[:, :3, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(other[:, :3, 3] / unit, one[:, :3, 3], atol=1e-3, rtol=0)


def test_shrinking_the_scene_reduces_no_reprojection_error():
    target, neighbor, _ = frames(0, dome())
    scale, flat = (torch.ones((), requires_grad=True) for _ in range(2))
    depth = scale * dome() ** flat
    T = align_frames(target, neighbor, depth, K)
    seen = warp(neighbor, project(backproject(depth, K), K, T), padding_mode="border")
    (seen - target.roll(1, -1)).square().mean().backward()
    assert scale.grad.abs() < 1e-3 * flat.grad.abs()


def test_a_batch_is_its_samples_one_by_one():
    pairs = [frames(seed, dome()) for seed in (1, 2)]
    target, neighbor = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    both = align_frames(target, neighbor, dome().repeat(2, 1, 1, 1), K.repeat(2, 1, 1))
    alone = torch.cat([align_frames(*pair[:2], dome(), K) for pair in pairs])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(both[:, 3], pose_matrix(*torch.zeros(2, 2, 3))[:, 3])


def test_what_does_not_fit_is_refused_by_name():
    image = texture(0)
    with pytest.raises(ValueError, match=r"neighbor: expected the target's shape .*, got \(1, 3, 64, 32\)"):
        align_frames(image, image[..., :32], dome(), K)
    with pytest.raises(ValueError, match=r"depth: expected \(1, 1, 64, 64\), got \(1, 1, 64, 32\)"):
        align_frames(image, image, dome()[..., :32], K)
    with pytest.raises(ValueError, match="target: expected sides in multiples of 4, got 64 x 62"):
        align_frames(image[..., :62], image[..., :62], dome()[..., :62], K)
