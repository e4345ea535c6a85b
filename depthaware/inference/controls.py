"""Controls of motion: its strength, that of head and expression apart, and a background at rest."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..keypoints import Keypoints

ROUNDS = 5
"""Of the reweighted fit of the head's motion."""
_FEWEST = 6
"""Key points on a face that tell its expression from its affine motion, which three determine."""


def scale_motion(
    kp_source: Keypoints, kp_driving: Keypoints, head: float, expression: float, on_face: Tensor | None = None
) -> Keypoints:
    """Scale the motion from a source to driving key points, in two parts.

    The head's part is the affine motion that fits the key points on the face best, those that move otherwise counting
    less; the expression is what they do beyond it. All other key points move with the head.

    Args:
        kp_source: (1, N, 2), of the source at rest.
        kp_driving: (B, N, 2), already transferred to the source.
        head: factor of the head's motion.
        expression: factor of the rest; both 0 are the source at rest, both 1 `kp_driving`.
        on_face: (N,) True for key points on the face; needed if the factors differ.
    """
    if head == expression == 1:
        return kp_driving
    scaled = _add(kp_source, head, kp_driving, kp_source)
    if head == expression or on_face is None:
        return scaled
    fit = fit_affine(kp_source.value.expand_as(kp_driving.value)[:, on_face], kp_driving.value[:, on_face])
    jacobian = kp_source.jacobian
    rigid = Keypoints(_homogeneous(kp_source.value) @ fit, None if jacobian is None else fit[:, None, :2].mT @ jacobian)
    face = _add(_add(kp_source, head, rigid, kp_source), expression, kp_driving, rigid)
    value = torch.where(on_face[:, None], face.value, scaled.value)
    if face.jacobian is None or scaled.jacobian is None:
        return Keypoints(value)
    return Keypoints(value, torch.where(on_face[:, None, None], face.jacobian, scaled.jacobian))


def check_on_face(on_face: Tensor | None) -> Tensor:
    """Raise ValueError if there are too few key points on a face to tell its expression from its motion."""
    count = 0 if on_face is None else int(on_face.sum())
    if on_face is None or count < _FEWEST:
        raise ValueError(
            f"head, expression: expected a face with at least {_FEWEST} key points in the source image, got {count}"
        )
    return on_face


def fit_affine(points: Tensor, moved: Tensor) -> Tensor:
    """Fit affine maps, robustly: weights fall with the distance that remains, in a few rounds.

    Args:
        points: (B, N, 2).
        moved: (B, N, 2).

    Returns:
        (B, 3, 2), which maps rows (x, y, 1).
    """
    x, weight = _homogeneous(points), torch.ones_like(moved[..., :1])
    for _ in range(ROUNDS):
        fit = torch.linalg.lstsq((weight * x).double(), (weight * moved).double()).solution.to(moved.dtype)
        rest = (x @ fit - moved).norm(dim=-1, keepdim=True)
        weight = (1 + rest / rest.median(dim=1, keepdim=True).values.clamp_min(1e-6)).reciprocal()
    return fit


def _homogeneous(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)


def _add(start: Keypoints, share: float, end: Keypoints, begin: Keypoints) -> Keypoints:
    """`start` + share (`end` - `begin`)."""
    value = start.value + share * (end.value - begin.value)
    if start.jacobian is None or end.jacobian is None or begin.jacobian is None:
        return Keypoints(value)
    return Keypoints(value, start.jacobian + share * (end.jacobian - begin.jacobian))


def foreground(model: Any, source: Any, keypoints: Keypoints) -> Tensor:
    """Share of each pixel that the motion network does not give to the background.

    Args:
        model: with `estimate_motion`, as `DaGAN` and its optimized copy have it.
        source: its encoding, (1, 3, H, W).
        keypoints: driving key points, (B, N, 2).

    Returns:
        (B, 1, H, W) in [0, 1].

    Raises:
        ValueError: if the model has no such network.
    """
    if not hasattr(model, "estimate_motion"):
        raise ValueError(
            f"freeze_background: expected a DaGAN, whose motion has a background, got {type(model).__name__}"
        )
    mask = model.estimate_motion(source, keypoints).mask[:, :1]
    return 1 - F.interpolate(mask, source.image.shape[-2:], mode="bilinear", align_corners=True)


def freeze(frames: Tensor, source_image: Tensor, moving: Tensor, at_rest: Tensor) -> Tensor:
    """Show the source wherever neither the driving frame nor the source at rest has anything but background.

    Args:
        frames: (B, 3, H, W) in [0, 1].
        source_image: (1, 3, H, W) in [0, 1].
        moving: (B, 1, H, W), `foreground` under the driving key points.
        at_rest: (1, 1, H, W), under the source's own.
    """
    return source_image + torch.maximum(moving, at_rest) * (frames - source_image)
