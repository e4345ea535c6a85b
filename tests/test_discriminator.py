"""Laws of the patch discriminators."""

import json

import pytest
import torch

from depthaware.blocks import AntiAliasDownsample
from depthaware.discriminator import MultiScaleDiscriminator
from depthaware.keypoints import Keypoints, gaussian_heatmap

SMALL = {"num_keypoints": 3, "block_expansion": 4, "max_features": 12, "num_blocks": 3, "scales": [1.0, 0.5]}


@pytest.fixture
def small() -> MultiScaleDiscriminator:
    torch.manual_seed(0)
    return MultiScaleDiscriminator(**json.loads(json.dumps(SMALL)))


def points(batch: int = 2) -> Keypoints:
    return Keypoints(torch.rand(batch, 3, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def images(height: int = 64, width: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_the_default_is_the_papers_discriminator():
    model = MultiScaleDiscriminator()
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes["discs.0.down_blocks.0.conv.weight"] == (64, 18, 4, 4)
    assert shapes["discs.0.down_blocks.3.conv.weight"] == (512, 256, 4, 4)
    assert shapes["discs.0.down_blocks.3.norm.weight"] == (512,)
    assert shapes["discs.0.conv.weight"] == (1, 512, 1, 1)
    assert "discs.0.down_blocks.0.norm.weight" not in shapes
    assert len(shapes) == 16
    # 256 -> 253 -> 126 -> 123 -> 61 -> 58 -> 29 -> 26, without the arithmetic
    with torch.device("meta"):
        (output,) = MultiScaleDiscriminator()(torch.empty(1, 3, 256, 256), Keypoints(torch.empty(1, 15, 2)))
    assert output.prediction.shape == (1, 1, 26, 26)
    assert [feature.shape[1] for feature in output.features] == [64, 128, 256, 512]


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (130, 66)])
def test_one_output_per_scale_for_any_size(small, size):
    outputs = small(images(*size), points())
    assert len(outputs) == 2
    for output, step in zip(outputs, (1, 2), strict=True):
        side = [((((n // step - 3) // 2) - 3) // 2) - 3 for n in size]
        assert output.prediction.shape == (2, 1, *side)
        assert [feature.shape[1] for feature in output.features] == [4, 8, 12]
        assert output.features[-1].shape[-2:] == output.prediction.shape[-2:]


def test_samples_do_not_see_each_other(small):
    image, kp = images(), points()
    both = small(image, kp)[0].prediction
    alone = small(image[1:], Keypoints(kp.value[1:]))[0].prediction
    torch.testing.assert_close(both[1:], alone)


def test_every_scale_sees_the_blurred_image_and_gaussians_of_its_own_size(small):
    image, kp = images(), points()
    seen = [torch.cat((image, gaussian_heatmap(kp.value, (64, 64), variance=0.01)), dim=1)]
    coarse = AntiAliasDownsample(3, 0.5)(image)
    seen.append(torch.cat((coarse, gaussian_heatmap(kp.value, (32, 32), variance=0.01)), dim=1))
    for output, disc, x in zip(small(image, kp), small.discs, seen, strict=True):
        torch.testing.assert_close(output.prediction, disc(x).prediction)


def test_train_and_eval_are_the_same(small):
    training = small(images(), points())[0].prediction
    torch.testing.assert_close(small.eval()(images(), points())[0].prediction, training)


def test_gradients_reach_image_key_points_and_every_parameter(small):
    image, kp = images().requires_grad_(), Keypoints(points().value.requires_grad_())
    sum(output.prediction.square().mean() for output in small(image, kp)).backward()
    assert image.grad.abs().sum() > 0 and kp.value.grad.abs().sum() > 0
    # An instance norm removes the bias before it; every other parameter must learn.
    redundant = {f"discs.{i}.down_blocks.{j}.conv.bias" for i in (0, 1) for j in (1, 2)}
    for name, parameter in small.named_parameters():
        assert parameter.grad is not None, name
        assert name in redundant or parameter.grad.abs().max() > 0, name


def test_the_first_block_has_no_norm_and_the_others_have(small):
    """Without a norm the block is positively homogeneous once its bias is 0; with one it forgets the scale."""
    blocks = small.discs[0].down_blocks
    for block in blocks:
        block.conv.bias.data.zero_()
    x = torch.randn(1, 6, 32, 32, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(blocks[0](3 * x), 3 * blocks[0](x))
    y = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(blocks[1](3 * y), blocks[1](y), atol=1e-4, rtol=1e-4)


def test_the_leak_is_a_fifth(small):
    block = small.discs[0].down_blocks[0]
    block.conv.weight.data.zero_()
    block.conv.bias.data.fill_(-1)
    torch.testing.assert_close(block(torch.zeros(1, 6, 8, 8)), torch.full((1, 4, 2, 2), -0.2))


def test_smallest_size_works_and_one_less_is_refused_by_name():
    model = MultiScaleDiscriminator(3, block_expansion=4, num_blocks=3)
    assert model(images(29, 29), points())[0].prediction.shape[-2:] == (2, 2)
    with pytest.raises(ValueError, match=r"at least 29.*got 28 x 40"):
        model(images(28, 40), points())


def test_state_dict_round_trip(small):
    torch.manual_seed(5)
    other = MultiScaleDiscriminator(**SMALL)
    other.load_state_dict(small.state_dict())
    for ours, theirs in zip(small(images(), points()), other(images(), points()), strict=True):
        torch.testing.assert_close(ours.prediction, theirs.prediction, atol=0, rtol=0)
