"""Equivariance loss: key points must follow random smooth transforms of the image."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..geometry import coordinate_grid, inverse_2x2
from ..warp import warp

# `Keypoints`, or any other (value (B, N, 2), jacobian (B, N, 2, 2) or None) pair: losses do not import models.
KeypointPair = tuple[Tensor, Tensor | None]


class RandomTransform(NamedTuple):
    """Smooth transform of the plane, one per sample: T(z) = A z + t + sum_p w_p U(|z - c_p|), with U(r) = r² log r.

    Attributes:
        affine: (B, 2, 3), [A | t].
        centers: (P, 2), the thin-plate control points c_p in [-1, 1].
        weights: (B, P, 2), the thin-plate coefficients w_p.

    Reference:
        Siarohin et al. 2019, section 3.3; Bookstein 1989 for the thin-plate kernel.
    """

    affine: Tensor
    centers: Tensor
    weights: Tensor

    @classmethod
    def sample(
        cls,
        batch: int,
        *,
        sigma_affine: float = 0.05,
        sigma_tps: float = 0.005,
        points_tps: int = 5,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> "RandomTransform":
        """Sample `batch` transforms around the identity.

        Args:
            batch: B.
            sigma_affine: standard deviation of the six affine entries.
            sigma_tps: standard deviation of the thin-plate coefficients.
            points_tps: side of the square grid of control points.
            generator: random number generator, on any device; the default one if None.
            device: of the transforms.
        """
        source = device if generator is None else generator.device
        device = device or source
        affine = sigma_affine * torch.randn(batch, 2, 3, generator=generator, device=source)
        weights = sigma_tps * torch.randn(batch, points_tps**2, 2, generator=generator, device=source)
        centers = coordinate_grid(points_tps, points_tps).flatten(0, 1)
        return cls(*(t.to(device) for t in (affine + torch.eye(2, 3, device=source), centers, weights)))

    def warp_points(self, points: Tensor) -> Tensor:
        """T at each point: (B or 1, N, 2) -> (B, N, 2)."""
        linear, shift = self.affine[..., :2], self.affine[:, None, :, 2]
        square = self._offsets(points).square().sum(-1)
        # r² log r = s log(s) / 2 with s = r²; the floor makes it 0 at a control point, and its gradient finite.
        bend = square * square.clamp_min(1e-12).log() / 2
        return points @ linear.transpose(1, 2) + shift + bend @ self.weights

    def jacobian(self, points: Tensor) -> Tensor:
        """dT/dz at each point, in closed form: (B or 1, N, 2) -> (B, N, 2, 2), rows = output, columns = input.

        With dU/dz = (log s + 1) (z - c) the thin-plate part adds sum_p w_p (dU_p/dz)ᵀ to the affine matrix.
        """
        offsets = self._offsets(points)
        slope = offsets * (offsets.square().sum(-1, keepdim=True).clamp_min(1e-12).log() + 1)
        return self.affine[:, None, :, :2] + self.weights.transpose(1, 2)[:, None] @ slope

    def warp_image(self, image: Tensor, *, padding_mode: str = "reflection") -> Tensor:
        """Transform an image (B, C, H, W): pixel z of the result is the original at T(z)."""
        height, width = image.shape[-2:]
        grid = coordinate_grid(height, width, dtype=self.affine.dtype, device=self.affine.device)
        deformation = self.warp_points(grid.view(1, -1, 2)).unflatten(1, (height, width))
        return warp(image, deformation.to(image.dtype), padding_mode=padding_mode)

    def _offsets(self, points: Tensor) -> Tensor:
        return points[:, :, None] - self.centers


class Equivariance(NamedTuple):
    """The two parts of the equivariance loss, scalars; the second is 0 for key points without Jacobians."""

    value: Tensor
    jacobian: Tensor


def equivariance_loss(kp: KeypointPair, kp_transformed: KeypointPair, transform: RandomTransform) -> Equivariance:
    """Equivariance error of key points under a known transform of the image.

    The transformed image at z equals the original at T(z), so a key point p' detected in it corresponds to p = T(p') in
    the original. Local frames follow by the chain rule, J = (dT/dz)(p') J', which is enforced as
    J⁻¹ (dT/dz)(p') J' = 1 so that shrinking all frames does not reduce the loss.

    Args:
        kp: `Keypoints` of the image, value (B, N, 2) and jacobian (B, N, 2, 2) or None.
        kp_transformed: `Keypoints` of `transform.warp_image(image)`.
        transform: the transform between them.

    Raises:
        ValueError: if the numbers of key points differ.

    Reference:
        Hong et al. 2022, section A.1, eq. 12, the value part; Siarohin et al. 2019, section 3.3, "Imposing Equivariance
        Constraint", both parts.
    """
    (value, jacobian), (value_transformed, jacobian_transformed) = kp, kp_transformed
    if value.shape != value_transformed.shape:
        raise ValueError(
            f"expected key points of one shape, got {tuple(value.shape)} and {tuple(value_transformed.shape)}"
        )
    value_error = (value - transform.warp_points(value_transformed)).abs().mean()
    if jacobian is None or jacobian_transformed is None:
        return Equivariance(value_error, torch.zeros_like(value_error))
    moved = transform.jacobian(value_transformed) @ jacobian_transformed
    identity = torch.eye(2, dtype=value.dtype, device=value.device)
    return Equivariance(value_error, (identity - inverse_2x2(jacobian) @ moved).abs().mean())


class EquivarianceLoss(nn.Module):
    """Weighted sum of the two parts of [`equivariance_loss`][depthaware.losses.equivariance_loss]."""

    def __init__(self, *, value_weight: float = 10.0, jacobian_weight: float = 10.0) -> None:
        super().__init__()
        self.value_weight, self.jacobian_weight = value_weight, jacobian_weight

    def forward(self, kp: KeypointPair, kp_transformed: KeypointPair, transform: RandomTransform) -> Tensor:
        loss = equivariance_loss(kp, kp_transformed, transform)
        return self.value_weight * loss.value + self.jacobian_weight * loss.jacobian
