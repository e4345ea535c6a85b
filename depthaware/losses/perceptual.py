"""Perceptual loss: distance between images in the features of a frozen network, at several scales."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..blocks import AntiAliasDownsample
from ..pretrained.checkpoint import load as load_checkpoint
from ..pretrained.tensors import fill, read_header, read_tensors

_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, ... relu5_1 in VGG-19's list of layers


def perceptual_loss(prediction: Tensor, target: Tensor, features: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of each feature map, summed over the maps.

    Args:
        prediction: (B, 3, H, W) in [0, 1].
        target: likewise; no gradient flows into it.
        features: takes an image, returns feature maps.

    Raises:
        ValueError: if the shapes differ.

    Reference:
        Hong et al. 2022, sections 3.5 and A.1; Johnson et al. 2016.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"expected images of one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}")
    with torch.no_grad():
        wanted = features(target)
    return torch.stack([(a - b).abs().mean() for a, b in zip(features(prediction), wanted, strict=True)]).sum()


class PerceptualLoss(nn.Module):
    """Weighted sum of `perceptual_loss` over an image pyramid.

    The feature network is frozen and stays in eval mode. It is deliberately not a submodule: it follows `.to(...)`, but
    is neither in `parameters()` nor in the state dict, and `train()` does not change it.

    Example:
        ``PerceptualLoss(VGG19Features.from_timm())``

    Args:
        features: module that takes (B, 3, H, W) in [0, 1] and returns feature maps, such as `VGG19Features`.
        weight: of each map at each scale.
        scales: of the image pyramid, each 1, 1/2, 1/4, ...; VGG-19 needs 16 pixels at the smallest.

    Reference:
        Hong et al. 2022, section A.1, eq. 11; Siarohin et al. 2019, eq. 8.
    """

    def __init__(
        self, features: nn.Module, *, weight: float = 10.0, scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125)
    ) -> None:
        super().__init__()
        self.weight = weight
        self.downs = nn.ModuleList(AntiAliasDownsample(3, scale) for scale in scales)
        self._frozen = (features.requires_grad_(False).eval(),)  # in a tuple, so that nn.Module does not register it

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        (features,) = self._frozen
        losses = [perceptual_loss(down(prediction), down(target), features) for down in self.downs]
        return self.weight * torch.stack(losses).sum()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PerceptualLoss":
        """Called by `.to()`, `.cuda()` and `.half()`: apply them to the feature network as well."""
        self._frozen[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


class VGG19Features(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of VGG-19 for images (B, 3, H, W) in [0, 1].

    The constructor initializes randomly and downloads nothing; see `from_timm` and `from_file`.

    Reference:
        Simonyan and Zisserman 2015, configuration E.
    """

    def __init__(self) -> None:
        super().__init__()
        import timm  # slow to import, and not needed by the other losses

        # The classifier is not used: one hidden unit instead of its 120 million parameters.
        model = timm.create_model("vgg19.tv_in1k", pretrained=False, num_classes=0, mlp_ratio=1 / 4096)
        self.layers = nn.Sequential(*model.get_submodule("features").children())[: _TAPS[-1] + 1]
        # ImageNet statistics: constants, so not part of a checkpoint.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @classmethod
    def from_timm(cls, name: str = "vgg19.tv_in1k") -> "VGG19Features":
        """Load the ImageNet weights of a timm model, downloaded unless cached."""
        import timm

        return cls()._load(timm.create_model(name, pretrained=True).state_dict(), name)

    @classmethod
    def from_file(cls, path: str | Path) -> "VGG19Features":
        """Load a local ``.safetensors`` or torch file with the keys of torchvision (and timm).

        Raises:
            ValueError: if it is another file, or its tensors are not those of VGG-19, or not finite.
        """
        path = Path(path)
        if path.suffix == ".safetensors":
            names = {name: name for name in read_header(path) if name.startswith("features.")}  # no large classifier
            return cls()._load(read_tensors(path, names), str(path))
        return cls()._load(load_checkpoint(path), str(path))

    def _load(self, weights: dict[str, Tensor], origin: str) -> "VGG19Features":
        wanted = {key: f"features.{key}" for key in self.layers.state_dict()}
        missing = [name for name in wanted.values() if name not in weights]
        if missing:
            raise ValueError(f"{origin}: expected the weights of VGG-19, found no {', '.join(missing)}")
        fill(self.layers, {key: weights[name] for key, name in wanted.items()}, origin)
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.std
        features = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in _TAPS:
                features.append(x)
        return features
