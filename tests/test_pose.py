"""Laws of the pose and intrinsics network."""

import pytest
import torch
from torch import nn

from depthaware import PoseNet
from depthaware.geometry import backproject, project
from depthaware.warp import warp

SIZES = [(64, 64), (64, 96), (128, 64)]


def network(**options) -> PoseNet:
    torch.manual_seed(0)
    return PoseNet("test_resnet", **options).eval()


@pytest.mark.parametrize("size", SIZES)
def test_a_new_network_has_the_principal_point_exactly_at_the_center(size):
    K = network()(*torch.rand(2, 3, 3, *size)).K
    assert torch.equal(K[:, :2, 2], torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2]).expand(3, 2))


@pytest.mark.parametrize("size", SIZES)
def test_a_new_network_has_a_portrait_lens(size):
    focal = network()(*torch.rand(2, 3, 3, *size)).K[:, [0, 1], [0, 1]]
    torch.testing.assert_close(focal, (0.8 * 3.0) ** 0.5 * torch.tensor([size[1], size[0]]).expand(3, 2).float())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias, center, focal", [(-50.0, 0.4, 0.8), (50.0, 0.6, 3.0)])
def test_intrinsics_stay_in_their_bounds(size, bias, center, focal):
    model, sides = network(), torch.tensor([size[1], size[0]]).float()
    for head in (model.centre, model.focal):
        head.bias.data.fill_(bias)
    K = model(*torch.rand(2, 1, 3, *size)).K
    torch.testing.assert_close(K[0, :2, 2], center * (sides - 1))
    torch.testing.assert_close(K[0, [0, 1], [0, 1]], focal * sides)


@pytest.mark.parametrize("head", ["bounded", "released"])
def test_intrinsics_are_a_camera_and_the_pose_is_rigid_and_starts_small(head):
    pose = network(intrinsics=head)(*torch.rand(2, 2, 3, 64, 96))
    focal = pose.K[:, [0, 1], [0, 1]]
    assert (focal > 0).all()
    expected = torch.zeros(2, 3, 3)
    expected[:, [0, 1], [0, 1]], expected[:, :2, 2], expected[:, 2, 2] = focal, pose.K[:, :2, 2], 1
    assert torch.equal(pose.K, expected)
    rotation = pose.matrix()[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2, 3, 3))
    assert torch.equal(pose.matrix()[:, :3, 3], pose.translation)
    assert pose.axis_angle.abs().max() < 0.1 and pose.translation.abs().max() < 0.1


def test_the_motion_is_a_hundredth_of_the_heads_output():
    model = network()
    nn.init.zeros_(model.motion.weight)
    model.motion.bias.data = torch.tensor([1.0, 2.0, 3.0, -4.0, 5.0, -6.0])
    pose = model(*torch.rand(2, 1, 3, 64, 64))
    torch.testing.assert_close(pose.axis_angle, torch.tensor([[0.01, 0.02, 0.03]]))
    torch.testing.assert_close(pose.translation, torch.tensor([[-0.04, 0.05, -0.06]]))


def test_the_released_head_lies_right_of_and_below_the_center():
    K = network(intrinsics="released")(*torch.rand(2, 2, 3, 64, 96)).K
    assert (K[:, 0, 2] > 48).all() and (K[:, 1, 2] > 32).all()


@pytest.mark.parametrize("head", ["bounded", "released"])
def test_a_reprojection_error_trains_pose_and_intrinsics(head):
    model = network(intrinsics=head)
    earlier, later = torch.rand(2, 2, 3, 64, 64)
    pose = model(earlier, later)
    pose.K.retain_grad()
    depth = 1 + torch.rand(2, 1, 64, 64)
    # A motion large enough to tell focal lengths apart; it keeps the network's gradient.
    T = pose.matrix() + torch.tensor([[0, 0, 0, 0.1], [0, 0, 0, 0.1], [0, 0, 0, 0.2], [0, 0, 0, 0]])
    seen = warp(later, project(backproject(depth, pose.K), pose.K, T), padding_mode="border")
    (seen - earlier).square().mean().backward()
    assert (pose.K.grad[:, [0, 1, 0, 1], [0, 1, 2, 2]] != 0).all()
    for name in ("focal", "centre", "motion"):
        for parameter in model.get_submodule(name).parameters():
            assert parameter.grad.abs().max() > 0, name


def test_the_order_of_the_frames_matters():
    model, (earlier, later) = network(), torch.rand(2, 1, 3, 64, 64)
    assert not torch.allclose(model(earlier, later).axis_angle, model(later, earlier).axis_angle)


def test_what_cannot_work_is_refused_by_name():
    frame = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match="intrinsics: expected 'bounded' or 'released', got 'left'"):
        network(intrinsics="left")
    with pytest.raises(ValueError, match="image: expected height and width in multiples of 32, got 64 x 72"):
        network()(*torch.zeros(2, 1, 3, 64, 72))
    with pytest.raises(
        ValueError, match=r"later: expected the shape of earlier \(1, 3, 64, 64\), got \(1, 3, 64, 96\)"
    ):
        network()(frame, torch.zeros(1, 3, 64, 96))
