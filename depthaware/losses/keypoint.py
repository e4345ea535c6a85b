"""Key-point separation loss."""

from typing import Literal

import torch
from torch import Tensor, nn

KeypointDistanceForm = Literal["hinge", "paper"]


def keypoint_distance_loss(value: Tensor, *, threshold: float = 0.2, form: KeypointDistanceForm = "hinge") -> Tensor:
    """Penalize pairs of key points nearer to each other than a threshold, d(i, j) = |p_i - p_j|_1 < threshold.

    "hinge" (default): mean over the pairs i != j of max(0, 1 - d / threshold), in [0, 1]; it pushes points apart.
    "paper": sum over the ordered pairs i != j of 1 - sign(d - threshold), as printed: 2 for every pair too near. Its
    **gradient is zero everywhere**, so it can measure crowding but not train against it. 2 N (N - 1) times the hinge is
    the same scale, equal where all points coincide or all keep their distance.

    Args:
        value: (B, N, 2), key points in [-1, 1].
        threshold: smallest desired distance, L1, in normalized units.
        form: "hinge" or "paper".

    Returns:
        A scalar, the mean over the batch.

    Reference:
        Hong et al. 2022, section A.1, eq. 13.
    """
    if form not in ("hinge", "paper"):
        raise ValueError(f"form: expected 'hinge' or 'paper', got {form!r}")
    if value.shape[1] < 2 or value.shape[2] != 2:
        raise ValueError(f"expected at least 2 key points (B, N, 2), got {tuple(value.shape)}")
    first, second = torch.triu_indices(value.shape[1], value.shape[1], offset=1, device=value.device)
    distance = (value[:, first] - value[:, second]).abs().sum(-1)
    if form == "paper":
        return 2 * (1 - torch.sign(distance - threshold)).sum(-1).mean()
    return (1 - distance / threshold).clamp_min(0).mean()


class KeypointDistanceLoss(nn.Module):
    """Weighted Module form of [`keypoint_distance_loss`][depthaware.losses.keypoint_distance_loss]."""

    def __init__(self, *, weight: float = 10.0, threshold: float = 0.2, form: KeypointDistanceForm = "hinge") -> None:
        super().__init__()
        self.weight, self.threshold, self.form = weight, threshold, form

    def forward(self, value: Tensor) -> Tensor:
        return self.weight * keypoint_distance_loss(value, threshold=self.threshold, form=self.form)
