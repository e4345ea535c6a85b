"""Objective of stage 2: its four losses as one object, and the loss of the discriminator that plays against it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .adversarial import DiscriminatorOutputs, feature_matching_loss, lsgan_discriminator_loss, lsgan_generator_loss
from .equivariance import KeypointPair, RandomTransform, equivariance_loss
from .keypoint import keypoint_distance_loss
from .perceptual import PerceptualLoss


class Generated(Protocol):
    """Fields of a model's output that the objective reads; `DaGANOutput` has them."""

    @property
    def prediction(self) -> Tensor: ...

    @property
    def kp_driving(self) -> Any: ...  # a named pair (value, jacobian), such as `Keypoints`


class DaGANTerms(NamedTuple):
    """Weighted terms of the objective, scalars; None for a term that is left out.

    Attributes:
        perceptual: eq. 11.
        adversarial: least-squares part of the GAN loss, section A.1.
        feature_matching: the other part of the GAN loss, section A.1.
        equivariance: eq. 12.
        keypoint_distance: eq. 13.
    """

    perceptual: Tensor | None
    adversarial: Tensor | None
    feature_matching: Tensor | None
    equivariance: Tensor | None
    keypoint_distance: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the terms, eq. 10."""
        return torch.stack(list(self.present().values())).sum()

    def present(self) -> dict[str, Tensor]:
        """Terms by name, without those that are left out."""
        return {name: term for name, term in self._asdict().items() if term is not None}


class DaGANLoss(nn.Module):
    """Loss of the generator in stage 2: L = 10 L_P + L_G + 10 L_E + 10 L_D.

    Args:
        features: frozen network of the perceptual loss, see `PerceptualLoss`; None leaves that term out.
        perceptual: weight of L_P, eq. 11.
        adversarial: weight of the least-squares part of L_G.
        feature_matching: weight of its feature matching, which is pix2pixHD's; the paper states none.
        equivariance: weight of L_E, eq. 12; also of its Jacobian part, which is FOMM's, where there are Jacobians.
        keypoint_distance: weight of L_D, eq. 13, as a hinge: see `keypoint_distance_loss`.
        guided: number of key points, the first ones, that L_D leaves where landmarks put them: closed lips meet.
        scales: of the image pyramid of L_P; 256, 128, 64 and 32 pixels in the paper.

    Reference:
        Hong et al. 2022, sections 3.5, 4.2 and A.1, eq. 10 to 13.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        *,
        perceptual: float = 10.0,
        adversarial: float = 1.0,
        feature_matching: float = 10.0,
        equivariance: float = 10.0,
        keypoint_distance: float = 10.0,
        guided: int = 0,
        scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125),
    ) -> None:
        super().__init__()
        self.perceptual = None if features is None else PerceptualLoss(features, weight=perceptual, scales=scales)
        self.adversarial, self.feature_matching = adversarial, feature_matching
        self.equivariance, self.keypoint_distance, self.guided = equivariance, keypoint_distance, guided

    def forward(
        self,
        out: Generated,
        driving: Tensor,
        kp_transformed: KeypointPair | None,
        transform: RandomTransform | None,
        discriminator: nn.Module | None = None,
    ) -> DaGANTerms:
        """Compute the terms of one batch.

        Args:
            out: the model's output, `DaGANOutput` or another with a `prediction` and `kp_driving`.
            driving: (B, 3, H, W) in [0, 1], which the prediction should equal.
            kp_transformed: key points of ``transform.warp_image(driving)``, perhaps of its first rows alone; None
                leaves the equivariance out.
            transform: a known one, of the driving image.
            discriminator: `MultiScaleDiscriminator` or another with its call; it gets no gradient. None leaves the
                GAN loss out.

        Raises:
            ValueError: if the shapes of images or key points differ.
        """
        if out.prediction.shape != driving.shape:
            wanted, found = tuple(out.prediction.shape), tuple(driving.shape)
            raise ValueError(f"driving: expected the shape of the prediction {wanted}, got {found}")
        equivariance = None
        if kp_transformed is not None and transform is not None:
            count = len(kp_transformed[0])
            value, jacobian = out.kp_driving
            first = value[:count], None if jacobian is None else jacobian[:count]
            error = equivariance_loss(first, kp_transformed, transform)
            equivariance = self.equivariance * (error.value + error.jacobian)
        distance = self.keypoint_distance * keypoint_distance_loss(out.kp_driving.value[:, self.guided :])
        perceptual = None if self.perceptual is None else self.perceptual(out.prediction, driving)
        adversarial, matching = (None, None) if discriminator is None else self._game(out, driving, discriminator)
        return DaGANTerms(perceptual, adversarial, matching, equivariance, distance)

    def _game(self, out: Generated, driving: Tensor, discriminator: nn.Module) -> tuple[Tensor, Tensor]:
        """The two parts of the GAN loss."""
        trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
        discriminator.requires_grad_(False)
        kp = _without_gradient(out.kp_driving)
        generated = discriminator(out.prediction, kp)
        with torch.no_grad():
            real = discriminator(driving, kp)
        for parameter in trained:
            parameter.requires_grad_(True)
        matching = feature_matching_loss(real, generated)
        return self.adversarial * lsgan_generator_loss(generated), self.feature_matching * matching


def discriminator_loss(
    discriminator: Callable[[Tensor, Any], DiscriminatorOutputs], out: Generated, driving: Tensor
) -> Tensor:
    """Least-squares loss of the discriminator on generated and real images, which go through it in one batch.

    Args:
        discriminator: `MultiScaleDiscriminator` or another with its call.
        out: as in `DaGANLoss`; it gets no gradient.
        driving: (B, 3, H, W) in [0, 1], the real images.

    Reference:
        Hong et al. 2022, section A.1; Mao et al. 2017, eq. 9.
    """
    kp = _without_gradient(out.kp_driving)
    images = torch.cat((out.prediction.detach(), driving))
    # One forward pass, as DistributedDataParallel requires.
    scales = discriminator(images, kp._replace(value=kp.value.repeat(2, 1, 1)))
    count = len(driving)
    real: list[tuple[Tensor, list[Tensor]]] = [(prediction[count:], []) for prediction, _ in scales]
    return lsgan_discriminator_loss(real, [(prediction[:count], []) for prediction, _ in scales])


def _without_gradient(kp: Any) -> Any:
    """Positions of key points alone: the discriminator's loss is not to move them."""
    return kp._replace(value=kp.value.detach(), jacobian=None)
