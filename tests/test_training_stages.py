"""Networks, losses and cameras of both stages, without a training run."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY

from depthaware import DaGAN, Pose, SelfSupDepthNet
from depthaware.losses import photometric_error
from depthaware.training.optimizer import trainable, warmup_cosine
from depthaware.training.stage1 import NETWORKS, Cameras, DepthStep, align_cameras, diagnostics, split_pose
from depthaware.training.stage2 import (
    GeneratorStep,
    freeze_depth,
    load_depth,
    new_model,
    new_objective,
    pyramid_error,
    random_transform,
    substitute_losses,
)
from depthaware.training.synced_norm import SyncedBatchNorm2d


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(3, 2, 3, 64, 64), smooth noise."""
    noise = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=64, mode="bicubic").clamp(0, 1).view(3, 2, 3, 64, 64)


# The schedule.


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    rates = [warmup_cosine(2.0, images, 1000, warmup=100, final=0.1) for images in range(1, 1001)]
    assert max(rates) == rates[99] and rates[-1] == pytest.approx(0.2)
    assert rates[49] / rates[99] == pytest.approx(0.5, rel=0.02)
    assert rates[499] == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert rates[249] == pytest.approx(2 * (0.1 + 0.9 * math.cos(math.pi / 8) ** 2))
    assert warmup_cosine(2.0, 700, 1000, warmup=100, final=1.0) == 2.0


# Batch norm.


def test_a_synced_norm_has_the_tensors_of_the_norm_it_replaces():
    norm = torch.nn.BatchNorm2d(3, eps=0.1, momentum=0.3).eval()
    norm.running_mean += 1
    synced = SyncedBatchNorm2d.from_batch_norm(norm)
    for (name, tensor), (other, found) in zip(
        norm.state_dict(keep_vars=True).items(), synced.state_dict(keep_vars=True).items(), strict=True
    ):
        assert name == other and tensor is found
    assert (synced.eps, synced.momentum, synced.training) == (0.1, 0.3, False)


# Stage 1.


def test_a_new_depth_network_is_nearly_flat_and_its_unused_scales_are_frozen(images):
    torch.manual_seed(0)
    step = DepthStep(num_scales=2).eval()
    disparities, pose = step(images[0], (images[0], images[1]))
    assert pose is None and [tuple(d.shape[-2:]) for d in disparities] == [(64, 64), (32, 32)]
    assert all((d - 0.5).abs().max() < 0.02 for d in disparities)
    frozen = {name for name, parameter in step.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[2] for name in frozen} == {"2", "3"} and all(".heads." in name for name in frozen)
    assert len(trainable(step)) == len(list(step.parameters())) - len(frozen)


@pytest.mark.parametrize("learn_pose, last", [(False, "config.json"), (True, "pose.safetensors")])
def test_networks_that_were_saved_are_loaded(learn_pose, last, tmp_path):
    first, second = (DepthStep(learn_pose=learn_pose, depth_range=[0.7, 1.5]) for _ in range(2))
    first.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(first.files()) and last in first.files()
    second.load(tmp_path)
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)
    depth_net = SelfSupDepthNet.from_pretrained(tmp_path)
    torch.testing.assert_close(depth_net.state_dict(), first.depth_net.state_dict(), rtol=0, atol=0)
    assert depth_net.depth_range == [0.7, 1.5]
    (tmp_path / last).unlink()
    with pytest.raises(ValueError, match=f"^--init {tmp_path}: expected a folder of .*, found no {last}"):
        second.load(tmp_path, "--init ")


def test_the_pose_of_the_earlier_frame_is_inverted():
    rotation = 0.1 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    translation = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    K = torch.arange(4.0).view(4, 1, 1) * torch.eye(3)
    pose = Pose(rotation, translation, K)
    cameras = split_pose(pose)
    identity = torch.eye(4).expand(2, 4, 4)
    torch.testing.assert_close(cameras.poses[0] @ pose.matrix()[:2], identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.poses[1], pose.matrix()[2:])
    assert torch.equal(torch.cat(cameras.K), K)


def test_one_neighbor_is_the_first_of_two():
    pose = Pose(torch.rand(4, 3) / 10, torch.rand(4, 3), torch.rand(4, 3, 3))
    both, one = split_pose(pose), split_pose(Pose(*(x[:2] for x in pose)), 1)
    assert len(one.poses) == len(one.K) == 1
    assert torch.equal(one.poses[0], both.poses[0]) and torch.equal(one.K[0], both.K[0])


@torch.no_grad()
def test_alignment_to_one_neighbor_is_that_to_the_first_of_two(images):
    target, earlier, later = images
    disparity = torch.full((2, 1, 64, 64), 0.4)
    both, one = (align_cameras(target, neighbors, disparity) for neighbors in ((earlier, later), (earlier,)))
    torch.testing.assert_close(one.poses[0], both.poses[0], atol=1e-4, rtol=1e-4)


def test_frames_that_do_not_move_have_no_pose(images):
    target, disparity = images[0], torch.full((2, 1, 64, 64), 0.4)
    cameras = align_cameras(target, (target, target), disparity, focal=2.0)
    for T, K in zip(*cameras, strict=True):
        torch.testing.assert_close(T, torch.eye(4).expand(2, 4, 4), atol=1e-4, rtol=0)
        assert torch.equal(K[0], torch.tensor([[128, 0, 31.5], [0, 128, 31.5], [0, 0, 1.0]]))
    shown = diagnostics(target, (target, target), disparity, cameras, 0.8, 1.25)
    assert shown["still"] < 1e-6 and shown["explained"] < 1e-4 and shown["focal"] == 2.0
    assert shown["rotation_degrees"] < 0.1 and shown["translation"] < 1e-4


def test_diagnostics_are_of_the_later_pose_and_the_better_neighbor(images):
    earlier, target, later = images
    T = torch.eye(4).repeat(2, 1, 1)
    T[:, :3, 3] = torch.tensor([0.3, 0.0, 0.4])
    T[:, 0, 0] = T[:, 1, 1] = math.cos(0.2)
    T[:, 1, 0], T[:, 0, 1] = math.sin(0.2), -math.sin(0.2)
    K = torch.eye(3).repeat(2, 1, 1) * 96
    shown = diagnostics(
        target,
        (earlier, later),
        torch.full((2, 1, 64, 64), 0.5),
        Cameras((torch.eye(4).repeat(2, 1, 1), T), (K, K)),
        1,
        2,
    )
    assert shown["translation"] == pytest.approx(0.5) and shown["focal"] == 1.5
    assert shown["rotation_degrees"] == pytest.approx(math.degrees(0.2), rel=1e-3)
    still = torch.minimum(photometric_error(earlier, target), photometric_error(later, target)).mean()
    assert shown["still"] == pytest.approx(still.item()) and shown["explained"] <= shown["still"]


# Stage 2.


def test_the_pyramid_is_the_mean_over_sizes(images):
    first, second = images[0], images[1]
    sizes = [F.avg_pool2d(torch.stack((first, second)).flatten(0, 1), 2**i).unflatten(0, (2, 2)) for i in range(4)]
    expected = sum(photometric_error(a, b, alpha=0.5).mean() for a, b in sizes) / 4
    torch.testing.assert_close(pyramid_error(first, second), expected)
    assert pyramid_error(first, first) < 1e-6


def test_a_transform_depends_on_seed_and_images_alone():
    device = torch.device("cpu")
    whole = random_transform(3, 40, 8, slice(0, 8), device)
    part = random_transform(3, 40, 8, slice(2, 5), device)
    torch.testing.assert_close(part.warp_image(torch.ones(3, 3, 8, 8)), whole.warp_image(torch.ones(8, 3, 8, 8))[2:5])
    assert torch.equal(part.affine, whole.affine[2:5])
    for other in (random_transform(4, 40, 8, slice(0, 8), device), random_transform(3, 48, 8, slice(0, 8), device)):
        assert not torch.equal(other.affine, whole.affine)


@pytest.fixture(scope="module")
def step() -> GeneratorStep:
    torch.manual_seed(0)
    model = DaGAN(**TINY)
    freeze_depth(model)
    return GeneratorStep(model)


def test_substitute_terms_are_weighted_and_absent_without_a_weight(step, images):
    source, driving, _ = images
    with torch.no_grad():
        out, _ = step(source, driving, driving)
    assert substitute_losses(out, driving) == {}
    found = substitute_losses(out, driving, pyramid=4.0, deformed=5.0)
    torch.testing.assert_close(found["pyramid"], 4 * pyramid_error(out.prediction, driving))
    torch.testing.assert_close(found["deformed"], 5 * pyramid_error(out.deformed, driving))


def test_the_perceptual_loss_is_at_no_size_below_16_pixels():
    features = torch.nn.Identity()
    for size, count in ((256, 4), (128, 4), (64, 3), (32, 2), (16, 1)):
        assert len(new_objective(features, size).perceptual.downs) == count
    assert new_objective(None, 64, equivariance=3.0).equivariance == 3.0


def test_depth_and_its_range_come_from_a_folder_of_stage_1(tmp_path):
    stage1 = DepthStep(depth_range=[0.7, 1.5])
    stage1.save(tmp_path)
    model = new_model("mini", size=64, motion_size=16, attention="none")
    load_depth(model, tmp_path)
    torch.testing.assert_close(model.depth_net.state_dict(), stage1.depth_net.state_dict())
    assert model.depth_range == model.config["depth_range"] == model.depth_net.depth_range == [0.7, 1.5]
    assert model.image_size == 64 and model.config["scale_factor"] == 0.25 and model.config["attention"] == "none"
    with pytest.raises(ValueError, match=r"^--depth nowhere: expected a folder of train_depth.py or .*no config.json"):
        load_depth(model, Path("nowhere"))


def test_the_papers_networks_are_the_defaults():
    assert new_model("paper", size=256, motion_size=64).config == DaGAN().config
    assert NETWORKS["paper"] == ("resnet18.tv_in1k", (16, 32, 64, 128, 256))
