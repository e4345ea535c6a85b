"""Depth-aware generator: encode the source, warp, occlude, attend, decode."""

from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .attention import AttentionForm, CrossModalAttention
from .blocks import DownBlock, ResBlock, SameBlock, UpBlock, check_size
from .motion import DenseMotion
from .warp import resize, warp

AttentionKind = Literal["cross", "self", "none"]
DecoderKind = Literal["plain", "spade"]


class SourceFeatures(NamedTuple):
    """Source features cached by `encode`.

    Attributes:
        appearance: (B, C, h, w), from the image.
        depth: (B, C, h, w), from the disparity; None unless the attention is cross-modal.
    """

    appearance: Tensor
    depth: Tensor | None


class GeneratorOutput(NamedTuple):
    """A generated frame.

    Attributes:
        prediction: (B, 3, H, W) in (0, 1).
        deformed: (B, 3, H, W), the source image under the deformation alone.
    """

    prediction: Tensor
    deformed: Tensor


class FeatureEncoder(nn.Module):
    """Features of an image or, with one input channel, of its disparity: the two inputs of `CrossModalAttention`.

    Args:
        in_channels: 3 for an image, 1 for a disparity.
        block_expansion: channels at full resolution, after a 7 x 7 block; they double with each halving.
        max_features: most channels; `out_channels` are those of the features.
        num_down_blocks: halvings; sides must be multiples of 2 ** num_down_blocks.

    Reference:
        Hong et al. 2022, section A.2, figure 11f (of the image) and 11g (of the depth).
    """

    def __init__(
        self, in_channels: int = 3, *, block_expansion: int = 64, max_features: int = 512, num_down_blocks: int = 2
    ) -> None:
        super().__init__()
        widths = [min(max_features, block_expansion * 2**i) for i in range(num_down_blocks + 1)]
        self.out_channels = widths[-1]
        self.first = SameBlock(in_channels, widths[0], kernel_size=7)
        self.down_blocks = nn.Sequential(*(DownBlock(a, b) for a, b in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """Encode (B, in_channels, H, W) in [0, 1] to (B, out_channels, H / 2^n, W / 2^n)."""
        check_size(x, 2 ** len(self.down_blocks), "input")
        return self.down_blocks(self.first(x))


class DepthAwareGenerator(nn.Module):
    """Generates a frame from source features warped by dense motion and refined by depth-guided attention.

    Args:
        attention: "cross" (depth queries appearance: the paper), "self" (appearance queries itself) or "none".
        attention_form: "released" or "paper", see `CrossModalAttention`.
        initial_gate: of a new attention, see `CrossModalAttention`; without attention it is not used.
        decoder: "plain" (residual bottleneck and up-sampling) or "spade" (conditioned on the deformed source).
        block_expansion: channels at full resolution.
        max_features: most channels of the encoder.
        num_down_blocks: halvings; sides must be multiples of 2 ** num_down_blocks.
        num_bottleneck_blocks: residual blocks of the plain decoder.
        blend: output occlusion · deformed source + (1 - occlusion) · decoded (Siarohin et al. 2021); not in the paper.
        align_corners: sampling convention, see `warp`.

    Reference:
        Hong et al. 2022, sections 3.3 and 3.4, eq. 8 and 9, figures 4 and 5; Siarohin et al. 2019 for the decoder.
    """

    def __init__(
        self,
        *,
        attention: AttentionKind = "cross",
        attention_form: AttentionForm = "released",
        initial_gate: float = 0.0,
        decoder: DecoderKind = "plain",
        block_expansion: int = 64,
        max_features: int = 512,
        num_down_blocks: int = 2,
        num_bottleneck_blocks: int = 6,
        blend: bool = False,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        if attention not in ("cross", "self", "none"):
            raise ValueError(f"attention: expected 'cross', 'self' or 'none', got {attention!r}")
        if decoder not in ("plain", "spade"):
            raise ValueError(f"decoder: expected 'plain' or 'spade', got {decoder!r}")
        self.blend, self.align_corners = blend, align_corners
        sizes: Any = dict(block_expansion=block_expansion, max_features=max_features, num_down_blocks=num_down_blocks)
        self.appearance_encoder = FeatureEncoder(3, **sizes)
        self.depth_encoder = FeatureEncoder(1, **sizes) if attention == "cross" else None
        channels = self.appearance_encoder.out_channels
        options: Any = {"form": attention_form, "initial_gate": initial_gate}
        self.attention = None if attention == "none" else CrossModalAttention(channels, **options)
        self.decoder: PlainDecoder | SPADEDecoder
        if decoder == "plain":
            self.decoder = PlainDecoder(channels, block_expansion, max_features, num_down_blocks, num_bottleneck_blocks)
        else:
            self.decoder = SPADEDecoder(channels, block_expansion, num_down_blocks)

    def forward(self, source_image: Tensor, disparity: Tensor | None, motion: DenseMotion) -> GeneratorOutput:
        """Generate frames under a dense motion.

        Args:
            source_image: (B, 3, H, W) in [0, 1].
            disparity: (B, 1, H, W) of the source; may be None unless the attention is cross-modal.
            motion: from `DenseMotionNetwork`, or your own ``DenseMotion(deformation=..., occlusion_map=...)``.
        """
        return self.decode(source_image, self.encode(source_image, disparity), motion)

    def encode(self, source_image: Tensor, disparity: Tensor | None = None) -> SourceFeatures:
        """Compute the part that depends on the source alone; arguments as in `forward`."""
        check_size(source_image, 2 ** len(self.appearance_encoder.down_blocks), "source_image")
        appearance = self.appearance_encoder(source_image)
        if self.depth_encoder is None:
            return SourceFeatures(appearance, None)
        if disparity is None or disparity.shape[-2:] != source_image.shape[-2:]:
            found = "none" if disparity is None else f"{tuple(disparity.shape)}"
            raise ValueError(f"disparity: expected the size of the source {tuple(source_image.shape)}, got {found}")
        return SourceFeatures(appearance, self.depth_encoder(disparity))

    def decode(self, source_image: Tensor, source: SourceFeatures, motion: DenseMotion) -> GeneratorOutput:
        """Compute the part that depends on the motion.

        Args:
            source_image: (B or 1, 3, H, W); one source is expanded to any number of motions.
            source: its features from `encode`.
            motion: of B frames; its occlusion map may have another size than its deformation.

        Raises:
            ValueError: if its maps are not (B, h, w, 2) and (B, 1, h, w).
        """
        if motion.occlusion_map.shape[:-2] != (count := motion.deformation.shape[0], 1):
            raise ValueError(f"occlusion_map: expected ({count}, 1, h, w), got {tuple(motion.occlusion_map.shape)}")
        feature = self._warp(source.appearance, motion)
        feature = feature * resize(motion.occlusion_map, feature.shape[-2:], self.align_corners)
        if self.attention is not None:
            feature = self.attention(feature if source.depth is None else source.depth, feature)
        deformed = self._warp(source_image, motion)
        occlusion_map = resize(motion.occlusion_map, deformed.shape[-2:], self.align_corners)
        kept = deformed * occlusion_map
        prediction = self.decoder(feature, kept)
        if self.blend:
            prediction = torch.addcmul(kept, 1 - occlusion_map, prediction)
        return GeneratorOutput(prediction, deformed)

    def _warp(self, image: Tensor, motion: DenseMotion) -> Tensor:
        count = motion.deformation.shape[0]
        return warp(image.expand(count, -1, -1, -1), motion.deformation, align_corners=self.align_corners)


class PlainDecoder(nn.Module):
    """Residual bottleneck, up-sampling and a sigmoid, as in FOMM; ignores the condition."""

    def __init__(
        self, channels: int, block_expansion: int, max_features: int, num_up_blocks: int, num_bottleneck_blocks: int
    ) -> None:
        super().__init__()
        widths = [min(max_features, block_expansion * 2**i) for i in reversed(range(num_up_blocks + 1))]
        self.bottleneck = nn.Sequential(*(ResBlock(channels) for _ in range(num_bottleneck_blocks)))
        self.up_blocks = nn.Sequential(*(UpBlock(a, b) for a, b in pairwise(widths)))
        self.final = nn.Conv2d(block_expansion, 3, 7, padding=3)

    def forward(self, feature: Tensor, condition: Tensor) -> Tensor:
        return torch.sigmoid(self.final(self.up_blocks(self.bottleneck(feature))))


class SPADEDecoder(nn.Module):
    """Decoder whose norms are modulated by the feature itself and the deformed, occluded source.

    Reference:
        Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization"; the second DaGAN release.
    """

    def __init__(self, channels: int, block_expansion: int, num_up_blocks: int) -> None:
        super().__init__()
        self.compress = nn.Conv2d(channels, 4, 3, padding=1)
        self.fc = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.middle = nn.ModuleList(SPADEResBlock(2 * channels, 2 * channels) for _ in range(3))
        widths = [2 * channels // 2**i for i in range(num_up_blocks)] + [block_expansion]
        self.up = nn.ModuleList(SPADEResBlock(a, b) for a, b in pairwise(widths))
        self.conv_img = nn.Conv2d(block_expansion, 3, 3, padding=1)

    def forward(self, feature: Tensor, condition: Tensor) -> Tensor:
        """Decode (B, C, h, w) under the deformed, occluded source (B, 3, H, W) to (B, 3, H, W)."""
        compressed = F.interpolate(self.compress(feature), size=condition.shape[-2:])
        condition = torch.cat((compressed, condition), dim=1)
        x = self.fc(feature)
        for block in self.middle:
            x = block(x, condition)
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2.0), condition)
        return torch.sigmoid(self.conv_img(F.leaky_relu(x, 0.2)))


class SPADEResBlock(nn.Module):
    """Residual block with SPADE norms and spectrally normalized convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.conv_0 = spectral_norm(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.norm_0, self.norm_1 = SPADE(in_channels), SPADE(middle)
        self.conv_s = self.norm_s = None
        if in_channels != out_channels:
            self.conv_s = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.norm_s = SPADE(in_channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, condition), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, condition), 0.2))
        if self.conv_s is not None and self.norm_s is not None:
            x = self.conv_s(self.norm_s(x, condition))
        return x + y


class SPADE(nn.Module):
    """Instance norm whose scale and shift are maps computed from the 7-channel condition."""

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.shared = nn.Conv2d(7, hidden, 3, padding=1)
        self.gamma, self.beta = (nn.Conv2d(hidden, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = F.relu(self.shared(F.interpolate(condition, size=x.shape[-2:])))
        return F.instance_norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)
