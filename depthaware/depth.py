"""Self-supervised face depth network: a ResNet encoder and a decoder with a disparity pyramid."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResNet, check_size
from .pretrained import hub
from .pretrained.config import records_options
from .pretrained.options import check_options

_FOUR = (True, True, True, True)
# Built without timm, which takes seconds to import.
_RESNETS: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": (2, 2, 2, 2)},
    "resnet34": {"layers": (3, 4, 6, 3)},
    "resnet50": {"layers": (3, 4, 6, 3), "bottleneck": _FOUR},
    "resnet101": {"layers": (3, 4, 23, 3), "bottleneck": _FOUR},
    "resnet152": {"layers": (3, 8, 36, 3), "bottleneck": _FOUR},
    "test_resnet": {
        "layers": (1, 1, 1, 1),
        "widths": (32, 48, 48, 96),
        "bottleneck": (False, False, True, False),
        "deep_stem": 16,
    },
}


_PART = hub.Part(
    "SelfSupDepthNet",
    "depth_net",
    "depth network",
    {
        "depth_encoder": "encoder",
        "depth_channels": "decoder_channels",
        "image_size": "image_size",
        "depth_range": "depth_range",
    },
)


class SelfSupDepthNet(nn.Module):
    """Predicts the disparity of an image (the paper's face depth network F_d), trained on video by `losses`.

    Args:
        encoder: name of any timm ResNet; the suffix ``.tv_in1k`` means torchvision's weights.
        pretrained: download the encoder's ImageNet weights, from which Godard et al. start.
        decoder_channels: widths of the decoder from full resolution to 1/16.
        image_size: side of the images in training, to which `depthaware depth` resizes; others are possible.
        depth_range: nearest and farthest depth in training, for `geometry.disparity_to_depth`.

    Reference:
        Hong et al. 2022, sections 3.2 and A.2, eq. 1, figure 11a; Godard et al. 2019 for the pyramid of the decoder.
    """

    config: dict[str, Any]
    card: str | None = None

    @records_options
    def __init__(
        self,
        encoder: str = "resnet18.tv_in1k",
        *,
        pretrained: bool = False,
        decoder_channels: tuple[int, ...] | list[int] = (16, 32, 64, 128, 256),
        image_size: int = 256,
        depth_range: tuple[float, float] | list[float] = (0.1, 100.0),
    ) -> None:
        super().__init__()
        self.encoder, channels = resnet_encoder(encoder, in_channels=3, pretrained=pretrained)
        skips = [0, *channels]  # finest first; level 0 has no skip connection
        widths = [*decoder_channels, skips[5]]
        self.reduce = nn.ModuleList(_reflect_conv(widths[i + 1], widths[i]) for i in range(5))
        self.fuse = nn.ModuleList(_reflect_conv(widths[i] + skips[i], widths[i]) for i in range(5))
        self.heads = nn.ModuleList(_reflect_conv(widths[i], 1) for i in range(4))

    @property
    def image_size(self) -> int:
        """Side of the images in training, from `config`."""
        return self.config["image_size"]

    @property
    def depth_range(self) -> list[float]:
        """Nearest and farthest depth in training, from `config`."""
        return self.config["depth_range"]

    def forward(self, image: Tensor, *, num_scales: int = 4) -> tuple[Tensor, ...]:
        """Disparity pyramid, finest first.

        Args:
            image: (B, 3, H, W) in [0, 1]; H and W multiples of 32, at least 64.
            num_scales: number of levels to compute, finest first, 1 to 4; inference needs 1.

        Returns:
            `num_scales` tensors (B, 1, H / 2^s, W / 2^s) in (0, 1), see `geometry.disparity_to_depth`.
        """
        if not 1 <= num_scales <= len(self.heads):
            raise ValueError(f"num_scales: expected 1 to {len(self.heads)}, got {num_scales}")
        features = self.encoder(normalize(image))
        disparities: list[Tensor] = []
        x = features[-1]
        for level in reversed(range(5)):
            x = F.interpolate(F.elu(self.reduce[level](x)), scale_factor=2.0)
            if level > 0:
                x = torch.cat((x, features[level - 1]), dim=1)
            x = F.elu(self.fuse[level](x))
            if level < num_scales:
                disparities.append(self._disparity(level, x))
        return tuple(reversed(disparities))

    def _disparity(self, level: int, feature: Tensor) -> Tensor:
        with torch.autocast(feature.device.type, enabled=False):  # bfloat16 would quantize slopes to steps
            return torch.sigmoid(self.heads[level](feature.to(next(self.heads[level].parameters()).dtype)))

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "SelfSupDepthNet":
        """Load weights, strictly, in eval mode: of `save_pretrained`, of stage 1, or the depth network of a `DaGAN`.

        Args:
            name: a bundled name ("dagan-tiny"), a folder, or a Hub id ("user/model").
            revision: branch, tag or commit of the Hub repository.

        Raises:
            ValueError: if nothing is found under that name, it has no depth network, or config and weights do not fit.
            OSError: if the Hub cannot be reached.
        """
        return hub.load(cls, name, revision, _PART)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors and README.md, as `DaGAN.save_pretrained` does."""
        hub.save(self, Path(folder), hub.named_config(self, _PART), card or self.card, dtype)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, private: bool = False) -> str:
        """Upload the files of `save_pretrained` to a Hub repository, made if absent; return the commit's URL."""
        return hub.push(self, repo_id, hub.named_config(self, _PART), card or self.card, private)


def resnet_encoder(name: str, *, in_channels: int, pretrained: bool = False) -> tuple[nn.Module, list[int]]:
    """Build a ResNet by its timm name that returns its feature maps at 1/2, ..., 1/32, and list their channels.

    The plain family (``resnet18`` to ``resnet152``, ``test_resnet``) needs no timm unless `pretrained`.
    """
    check_options({"encoder": name})
    plain = _RESNETS.get(name.partition(".")[0])
    if plain and not pretrained:
        resnet = ResNet(in_channels, **plain)
        return resnet, resnet.channels
    import timm

    if not timm.is_model(name):
        raise ValueError(f"encoder {name!r}: unknown to timm {timm.__version__}")
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, features_only=True, in_chans=in_channels)
    except RuntimeError as error:  # without features
        raise ValueError(f"encoder {name!r}: {error}") from error
    if model.feature_info.reduction() != [2, 4, 8, 16, 32]:
        raise ValueError(
            f"encoder {name!r}: expected a ResNet with features at 1/2 to 1/32, found {model.feature_info.reduction()}"
        )
    return model, model.feature_info.channels()


def normalize(image: Tensor) -> Tensor:
    """Normalize an image in [0, 1] for the depth and pose encoders: (x - 0.45) / 0.225; checks its size."""
    check_size(image, 32, "image")
    if min(image.shape[-2:]) < 64:  # reflection padding needs two pixels at 1/32
        raise ValueError(f"image: expected sides of at least 64, got {image.shape[-2]} x {image.shape[-1]}")
    return (image - 0.45) / 0.225


def _reflect_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")
