"""Stage 2: networks and losses of key points, motion and generator, with the depth network of stage 1 frozen.

Reference: Hong et al. 2022, sections 3.3, 3.4, 3.5 and 4.2.
"""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dagan import DaGAN, DaGANOutput, SourceEncoding
from ..discriminator import MultiScaleDiscriminator
from ..keypoints import Keypoints
from ..losses import DaGANLoss, RandomTransform, photometric_error
from .optimizer import trainable
from .stage1 import load_depth_net


class NetworkSize(NamedTuple):
    """Size of the networks of stage 2.

    Attributes:
        model: options of `DaGAN` that differ from its defaults, the sizes of the released weights.
        discriminator_width: channels of the discriminator's first block; the last has 8 times as many.
    """

    model: dict[str, Any]
    discriminator_width: int


_TINY = {
    "blend": True,
    "depth_encoder": "test_resnet",
    "depth_channels": [8, 16, 24, 32, 64],
    "detector_block_expansion": 16,
    "motion_block_expansion": 16,
    "hourglass_max_features": 128,
    "num_hourglass_blocks": 4,
    "generator_block_expansion": 12,
    "generator_max_features": 96,
    "num_down_blocks": 3,
    "num_bottleneck_blocks": 3,
}
_MINI = _TINY | {
    "detector_block_expansion": 8,
    "motion_block_expansion": 8,
    "hourglass_max_features": 64,
    "generator_block_expansion": 8,
    "generator_max_features": 64,
    "num_down_blocks": 2,
    "num_bottleneck_blocks": 2,
}
# Those of ablations (with the depth network of "tiny"), of dagan-tiny, and of the released weights.
NETWORKS = {"mini": NetworkSize(_MINI, 8), "tiny": NetworkSize(_TINY, 16), "paper": NetworkSize({}, 64)}


def new_model(network: str, *, size: int, motion_size: int, **options: Any) -> DaGAN:
    """A `DaGAN` with random weights.

    Args:
        network: key of `NETWORKS`.
        size: side of the images.
        motion_size: side of the maps on which key points and motion are estimated.
        **options: others of `DaGAN`.
    """
    size_options = {"image_size": size, "scale_factor": motion_size / size}
    return DaGAN(**{**NETWORKS[network].model, **size_options, **options})


def load_depth(model: DaGAN, name: str | Path, flag: str = "--depth ") -> None:
    """Load the depth network of stage 1, and the range of depth that it was trained for.

    Args:
        model: with a depth network.
        name: folder of train_depth.py, or of any weights with a depth network, or a bundled name.
        flag: that named it, for the error message.

    Raises:
        ValueError: if there is no such network, or it does not fit.
    """
    assert model.depth_net is not None
    model.config["depth_range"] = model.depth_net.config["depth_range"] = load_depth_net(model.depth_net, name, flag)


def freeze_depth(model: DaGAN) -> None:
    """Exclude the depth network, if there is one, from training, its batch-norm statistics included."""
    if model.depth_net is not None:
        model.depth_net.requires_grad_(False).eval()


class GeneratorStep(nn.Module):
    """All that is trained but the discriminator: one forward pass for DistributedDataParallel."""

    def __init__(self, model: DaGAN, *, joint: bool = False) -> None:
        super().__init__()
        self.model, self.joint = model, joint

    def forward(
        self, source: Tensor, driving: Tensor, transformed: Tensor | None
    ) -> tuple[DaGANOutput, Keypoints | None]:
        """The generated frame, and the key points of the transformed driving frame.

        Args:
            source: (B, 3, H, W) in [0, 1].
            driving: like `source`.
            transformed: `driving`, or its first rows, under a `RandomTransform`; None for no such key points.
        """
        if self.joint:
            return self._jointly([source, driving] if transformed is None else [source, driving, transformed])
        return self.model(source, driving), None if transformed is None else self.model.detect_keypoints(transformed)

    def _jointly(self, images: list[Tensor]) -> tuple[DaGANOutput, Keypoints | None]:
        """The same with one pass of the detector, whose batch norms see all images together."""
        model, counts = self.model, [len(image) for image in images]
        found, disparity = model.detect(torch.cat(images))
        jacobians = [None] * 3 if found.jacobian is None else found.jacobian.split(counts)
        kp = [Keypoints(*pair) for pair in zip(found.value.split(counts), jacobians, strict=False)]
        disparities = [None] * 3 if disparity is None else disparity.split(counts)
        features, small = model.generator.encode(images[0], disparities[0]), model.dense_motion.down(images[0])
        source = SourceEncoding(images[0], small, disparities[0], kp[0], features)
        out = model.drive_with_details(source, kp[1])._replace(disparity_driving=disparities[1])
        return out, kp[2] if len(kp) == 3 else None


def new_discriminator(network: str, num_keypoints: int) -> MultiScaleDiscriminator:
    """A discriminator with random weights; `network` is a key of `NETWORKS`."""
    width = NETWORKS[network].discriminator_width
    return MultiScaleDiscriminator(num_keypoints, block_expansion=width, max_features=8 * width)


def adam(network: nn.Module, *, attention_rate: float = 1.0, gate_rate: float = 1.0) -> torch.optim.Adam:
    """The optimizer of FOMM and of the released code; the learning rate is set at each step.

    Args:
        network: with the parameters.
        attention_rate: factor on the learning rate of attention and depth encoder.
        gate_rate: factor on that of the attention's gate.
    """
    if attention_rate == gate_rate == 1:
        return torch.optim.Adam(trainable(network), betas=(0.5, 0.999), fused=True)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            own = attention_rate if ".attention." in name or ".depth_encoder." in name else 1.0
            scale = gate_rate if name.endswith(".attention.gate") else own
            groups.setdefault(scale, []).append(parameter)
    scaled = [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]
    return torch.optim.Adam(scaled, betas=(0.5, 0.999), fused=True)


def random_transform(seed: int, images: int, batch: int, rows: slice, device: torch.device) -> RandomTransform:
    """The transform of some rows of a batch, a function of the seed and the number of images alone.

    It is drawn for the whole batch, so that it does not depend on the number of processes.

    Args:
        seed: of the run.
        images: seen after this step.
        batch: samples of the whole batch.
        rows: of the batch, for this forward pass.
        device: of the result.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_000_007 + images)
    affine, centers, weights = RandomTransform.sample(batch, generator=generator, device=device)
    return RandomTransform(affine[rows], centers, weights[rows])


def substitute_losses(
    out: DaGANOutput, driving: Tensor, *, pyramid: float = 0.0, deformed: float = 0.0, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Weighted terms beside `DaGANLoss` that need no trained network; neither is in the paper.

    Args:
        out: of the model.
        driving: (B, 3, H, W) in [0, 1].
        pyramid: weight of `pyramid_error` of the result; no such term if 0.
        deformed: weight of `pyramid_error` of the source under the motion alone; no such term if 0.
        weights: (B, 1, H, W), of the pixels in both.
    """
    terms = {}
    if pyramid:
        terms["pyramid"] = pyramid * pyramid_error(out.prediction, driving, weights=weights)
    if deformed:
        terms["deformed"] = deformed * pyramid_error(out.deformed, driving, weights=weights)
    return terms


def pyramid_error(prediction: Tensor, target: Tensor, num_scales: int = 4, *, weights: Tensor | None = None) -> Tensor:
    """Mean of SSIM and L1 at full, 1/2, 1/4, ... size; a substitute for the perceptual loss.

    `weights` (B, 1, H, W) are those of the pixels, such as `region_weights`; all are equal if None.
    """
    error = _weighted_mean(photometric_error(prediction, target, alpha=0.5), weights)
    for _ in range(num_scales - 1):
        prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        weights = None if weights is None else F.avg_pool2d(weights, 2)
        error = error + _weighted_mean(photometric_error(prediction, target, alpha=0.5), weights)
    return error / num_scales


def _weighted_mean(error: Tensor, weights: Tensor | None) -> Tensor:
    return error.mean() if weights is None else (error * weights).sum() / weights.sum()


def new_objective(features: nn.Module | None, size: int, *, guided: int = 0, **weights: float) -> DaGANLoss:
    """A `DaGANLoss` of its own copy of the features, without scales below 16 pixels, VGG-19's smallest input."""
    scales = [scale for scale in (1.0, 0.5, 0.25, 0.125) if scale * size >= 16]
    return DaGANLoss(copy.deepcopy(features), scales=scales, guided=guided, **weights)
