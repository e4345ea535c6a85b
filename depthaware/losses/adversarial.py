"""Least-squares GAN losses on the outputs of `MultiScaleDiscriminator`: per scale a (prediction, features) pair."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DiscriminatorOutputs = Sequence[tuple[Tensor, Sequence[Tensor]]]


def lsgan_generator_loss(generated: DiscriminatorOutputs) -> Tensor:
    """Least-squares generator loss: mean (1 - D)², summed over scales.

    Args:
        generated: the discriminator's outputs on generated images.

    Reference:
        Hong et al. 2022, sections 3.5 and A.1; Mao et al. 2017, eq. 9.
    """
    return torch.stack([(1 - prediction).square().mean() for prediction, _ in generated]).sum()


def lsgan_discriminator_loss(real: DiscriminatorOutputs, generated: DiscriminatorOutputs) -> Tensor:
    """Least-squares discriminator loss: mean (1 - D(real))² + mean D(generated)², summed over scales.

    Args:
        real: the discriminator's outputs on real images.
        generated: its outputs on generated images, which the caller detaches from the generator.

    Reference:
        Hong et al. 2022, sections 3.5 and A.1; Mao et al. 2017, eq. 9.
    """
    generated_terms = [prediction.square().mean() for prediction, _ in generated]
    return lsgan_generator_loss(real) + torch.stack(generated_terms).sum()


def feature_matching_loss(real: DiscriminatorOutputs, generated: DiscriminatorOutputs) -> Tensor:
    """Feature-matching loss: mean absolute difference of discriminator features, summed over blocks and scales.

    Args:
        real: outputs on real images; no gradient flows into them.
        generated: outputs on generated images.

    Reference:
        Hong et al. 2022, sections 3.5 and A.1; Wang et al. 2018 (pix2pixHD), eq. 4.
    """
    terms = [
        (a.detach() - b).abs().mean()
        for (_, real_features), (_, generated_features) in zip(real, generated, strict=True)
        for a, b in zip(real_features, generated_features, strict=True)
    ]
    return torch.stack(terms).sum()


class LSGANGeneratorLoss(nn.Module):
    """Weighted Module form of [`lsgan_generator_loss`][depthaware.losses.lsgan_generator_loss]."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, generated: DiscriminatorOutputs) -> Tensor:
        return self.weight * lsgan_generator_loss(generated)


class LSGANDiscriminatorLoss(nn.Module):
    """Weighted Module form of [`lsgan_discriminator_loss`][depthaware.losses.lsgan_discriminator_loss]."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, real: DiscriminatorOutputs, generated: DiscriminatorOutputs) -> Tensor:
        return self.weight * lsgan_discriminator_loss(real, generated)


class FeatureMatchingLoss(nn.Module):
    """Weighted Module form of [`feature_matching_loss`][depthaware.losses.feature_matching_loss]."""

    def __init__(self, *, weight: float = 10.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, real: DiscriminatorOutputs, generated: DiscriminatorOutputs) -> Tensor:
        return self.weight * feature_matching_loss(real, generated)
