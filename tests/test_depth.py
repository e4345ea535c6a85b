"""Laws of the face depth network."""

import subprocess
import sys

import pytest
import timm
import torch

from depthaware import SelfSupDepthNet
from depthaware.depth import resnet_encoder

NARROW = (4, 4, 8, 8, 16)


def network(encoder: str = "test_resnet") -> SelfSupDepthNet:
    torch.manual_seed(0)
    return SelfSupDepthNet(encoder, decoder_channels=NARROW).eval()


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (256, 128), (512, 512)])
def test_the_pyramid_halves_and_lies_between_zero_and_one(size):
    pyramid = network()(torch.rand(2, 3, *size))
    assert [tuple(d.shape) for d in pyramid] == [(2, 1, size[0] >> s, size[1] >> s) for s in range(4)]
    assert all(d.min() > 0 and d.max() < 1 for d in pyramid)


@pytest.mark.parametrize("num_scales", [1, 2, 3])
def test_fewer_scales_are_the_finest_of_all(num_scales):
    model, image = network(), torch.rand(1, 3, 64, 64)
    some = model(image, num_scales=num_scales)
    assert len(some) == num_scales
    assert all(torch.equal(a, b) for a, b in zip(some, model(image), strict=False))


@pytest.mark.parametrize("encoder", ["resnet18", "resnet18.tv_in1k", "resnet50", "test_resnet"])
def test_any_timm_resnet_will_do(encoder):
    model = network(encoder)
    assert model(torch.rand(1, 3, 64, 64), num_scales=1)[0].shape == (1, 1, 64, 64)
    assert not any(".fc." in key for key in model.state_dict())  # no classifier


@pytest.mark.parametrize("in_channels", [3, 6])
@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet34", "resnet50", "test_resnet.r160_in1k"])
def test_plain_resnets_are_timms(name, in_channels):
    torch.manual_seed(0)
    ours, channels = resnet_encoder(name, in_channels=in_channels)
    theirs = timm.create_model(name, features_only=True, in_chans=in_channels)
    assert channels == theirs.feature_info.channels()
    for norm in (module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        for tensor in (norm.weight.data, norm.running_var):  # some start at zero, which hides the branch before
            tensor.uniform_(0.5, 1)
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(2, in_channels, 64, 96)
    for training in (False, True):
        found, expected = (network.train(training)(image) for network in (ours, theirs))
        for a, b in zip(found, expected, strict=True):
            assert b.std() > 1e-3
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_plain_resnets_start_like_timms():
    torch.manual_seed(0)
    ours = resnet_encoder("test_resnet", in_channels=3)[0].state_dict()
    drawn_next = torch.rand(1)
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", features_only=True).state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert torch.equal(drawn_next, torch.rand(1))


def test_the_bundled_models_encoder_needs_no_timm():
    code = """
import sys
from depthaware import DaGAN
DaGAN.from_pretrained("dagan-tiny")
print(sorted({"timm", "torchvision", "torch._dynamo"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done


def test_the_default_is_the_papers_resnet18():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in SelfSupDepthNet().state_dict().items()}
    assert shapes["encoder.conv1.weight"] == (64, 3, 7, 7) and "encoder.layer3.1.conv2.weight" in shapes
    assert [shapes[f"fuse.{i}.weight"][:2] for i in range(5)] == [(16, 16), (32, 96), (64, 128), (128, 256), (256, 512)]


def test_brightness_matters_and_a_mirrored_image_has_another_disparity():
    model, image = network(), torch.rand(1, 3, 64, 64)
    assert not torch.allclose(model(image)[0], model(0.5 * image)[0])
    assert not torch.allclose(model(image.flip(3))[0].flip(3), model(image)[0])


def test_the_encoder_gets_images_of_mean_zero_point_45_and_deviation_half_of_it():
    model, inputs = network(), []
    model.encoder.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    for gray in (0.0, 0.45, 0.675):
        model(torch.full((1, 3, 64, 64), gray), num_scales=1)
    means = [x.mean().item() for x in inputs]
    assert means == pytest.approx([-2.0, 0.0, 1.0], abs=1e-5)


@pytest.mark.parametrize(
    "size, message",
    [
        ((80, 64), "image: expected height and width in multiples of 32, got 80 x 64"),
        ((64, 0), "image: expected height and width in multiples of 32, got 64 x 0"),
        ((64, 32), "image: expected sides of at least 64, got 64 x 32"),
    ],
)
def test_sides_that_cannot_be_halved_are_refused_by_name(size, message):
    with pytest.raises(ValueError, match=message):
        network()(torch.zeros(1, 3, *size))


def test_impossible_options_are_refused_by_name():
    with pytest.raises(ValueError, match="encoder 'test_vit': expected a ResNet"):
        SelfSupDepthNet("test_vit")
    with pytest.raises(ValueError, match=r"encoder 'resnet19': unknown to timm"):
        SelfSupDepthNet("resnet19")
    with pytest.raises(ValueError, match="decoder_channels: expected 5 whole numbers"):
        SelfSupDepthNet("test_resnet", decoder_channels=(4, 8))
    for num_scales in (0, 5):
        with pytest.raises(ValueError, match=f"num_scales: expected 1 to 4, got {num_scales}"):
            network()(torch.zeros(1, 3, 64, 64), num_scales=num_scales)
