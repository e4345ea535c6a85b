"""Laws of the perceptual loss and its VGG-19 features; torchvision as oracle."""

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from depthaware import losses


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_vgg_weights_that_do_not_fit_are_one_line(vgg, tmp_path, suffix):
    weights = {f"features.{key}": tensor for key, tensor in vgg.layers.state_dict().items()}
    for change, expected in (
        (torch.full((64,), torch.nan), "0.bias has values that are not finite"),
        (torch.zeros(65), r"0.bias is \(65,\), expected \(64,\)"),
        (torch.zeros(64, dtype=torch.int8), "0.bias is of dtype int8, expected float16"),
    ):
        path = tmp_path / f"vgg19.{suffix}"
        save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
        save(weights | {"features.0.bias": change}, path)
        with pytest.raises(ValueError, match=rf"vgg19.{suffix}: {expected}"):
            losses.VGG19Features.from_file(path)


def test_weights_of_another_network_are_refused(tmp_path):
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: expected the weights of VGG-19.*features\.28\.weight"):
        losses.VGG19Features.from_file(tmp_path / "other.safetensors")


def test_only_from_timm_requests_pretrained_weights(vgg, monkeypatch):
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


def test_images_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.perceptual_loss(uniform(1, 3, 8, 8), uniform(2, 3, 8, 8), lambda x: [x])
