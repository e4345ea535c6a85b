"""Frozen networks whose features the perceptual loss compares: VGG-19, and substitutes for it."""

from itertools import pairwise

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from torch import Tensor, nn

from ..depth import SelfSupDepthNet
from ..losses import VGG19Features

__all__ = ["DepthFeatures", "RandomFeatures", "frozen_features"]

_VGG = "timm/vgg19.tv_in1k"


def frozen_features(kind: str, depth_net: SelfSupDepthNet | None = None) -> nn.Module | None:
    """A feature extractor for `depthaware.losses.PerceptualLoss`.

    Args:
        kind: "vgg19" for timm's weights from the cache or the Hub; a file with such weights; "random" for
            `RandomFeatures`; "depth" for `DepthFeatures`; "none".
        depth_net: for "depth".

    Returns:
        None for "none", and for "vgg19" if its weights are neither in the cache nor can be downloaded.

    Raises:
        ValueError: if the file cannot be used, or "depth" comes without a depth network.
    """
    if kind == "none":
        return None
    if kind == "random":
        return RandomFeatures()
    if kind == "depth":
        if depth_net is None:
            raise ValueError("--features depth: expected a model with a depth network")
        return DepthFeatures(depth_net)
    if kind != "vgg19":
        return VGG19Features.from_file(kind)
    try:
        HfApi().model_info(_VGG, timeout=10)  # fails at once, where the download would try for a minute
    except Exception:
        if not isinstance(try_to_load_from_cache(_VGG, "model.safetensors"), str):
            return None
    return VGG19Features.from_timm()


class RandomFeatures(nn.Module):
    """Four levels of random convolutions that keep the variance, each at half the size of the one before.

    Args:
        width: channels of the first level; doubled at each further one.
        seed: of the weights.

    Reference:
        He et al. 2015, the initialization.
    """

    def __init__(self, width: int = 16, *, seed: int = 0) -> None:
        super().__init__()
        widths = [3] + [width * 2**i for i in range(4)]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        generator = torch.Generator().manual_seed(seed)
        for conv in convolutions:
            nn.init.kaiming_normal_(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.levels = nn.ModuleList(convolutions)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of an image (B, 3, H, W) in [0, 1], finest first."""
        x, features = (image - 0.5) / 0.25, []
        for i, conv in enumerate(self.levels):
            x = conv(x if i == 0 else nn.functional.avg_pool2d(x, 2)).relu()
            features.append(x)
        return features


class DepthFeatures(nn.Module):
    """The five feature maps of a depth encoder, which was trained on the same faces without labels.

    Args:
        depth_net: its encoder is used as it is, not copied.
    """

    def __init__(self, depth_net: SelfSupDepthNet) -> None:
        super().__init__()
        self.encoder = depth_net.encoder

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of an image (B, 3, H, W) in [0, 1] of any size, finest first."""
        return self.encoder((image - 0.45) / 0.225)  # as `SelfSupDepthNet` does, but for images of any size
