"""Maps of the cross-modal attention: from a point of the face to what its depth makes the generator look at."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..dagan import DaGAN
from ..keypoints import transfer_motion
from ..media.image import Fit, Image, to_uint8
from ..motion import DenseMotion
from ..warp import resize, warp
from .animator import Animator
from .options import AnimateOptions
from .source import Source


class AttentionMaps(NamedTuple):
    """Attention weights of selected queries, and the images that they belong to.

    S is the model's image size and h x w the resolution of its attention.

    Attributes:
        source: uint8 (S, S, 3), the source as the model sees it.
        driving: uint8 (S, S, 3).
        result: uint8 (S, S, 3), the generated frame.
        points: float32 (Q, 2), the query points in pixels of `source`.
        on_source: float32 (Q, h, w), the weights carried back to where in the source the warped feature was sampled;
            each sums to 1 less the weight of features from beyond the source's border.
        on_result: float32 (Q, h, w), the weights at the positions of the warped feature, those of `result`; each sums
            to 1.
        gate: factor of what the attention adds to the feature, near 0 the maps have no effect; 1 in the form of the
            paper, where it replaces the feature.
    """

    source: Image
    driving: Image
    result: Image
    points: npt.NDArray[np.float32]
    on_source: npt.NDArray[np.float32]
    on_result: npt.NDArray[np.float32]
    gate: float


@torch.no_grad()
def attention_maps(
    model: DaGAN,
    source_image: Image | Tensor,
    driving_image: Image | Tensor,
    points: Sequence[Sequence[float]] | npt.NDArray[np.floating],
    *,
    reference: Image | Tensor | None = None,
    fit: Fit | Literal["face"] = "face",
) -> AttentionMaps:
    """Compute what the generator attends to from points of the source.

    Queries come from the depth of the source, which is not warped: a query lies at its point of the source. Keys come
    from the warped appearance: a key lies in the result, and stands for the place in the source where the deformation
    sampled it. `on_source` carries the weights there by the transpose of the warp. With ``attention="self"`` queries
    come from the warped appearance as well, and the query is the position in the result that was sampled nearest to the
    point.

    Args:
        model: with attention.
        source_image: uint8 (H, W, 3), or floats (1, 3, H, W) in [0, 1].
        driving_image: likewise, of any size.
        points: Q pairs (x, y) in pixels of `source_image`, whose centers are integers.
        reference: driving frame with the pose of the source, from which the motion is relative as in `animate`; if
            None, the motion is absolute.
        fit: how images become square, as in `animate`.

    Raises:
        ValueError: if the model has no attention, or a point lies outside of what the model sees of the source.

    Reference:
        Hong et al. 2022, section 3.4, eq. 9, and figure 10.
    """
    attention = model.generator.attention
    if attention is None:
        raise ValueError(f"attention: these weights have none, their configuration is {model.config}")
    animator = Animator(model, source_image, AnimateOptions(fit=fit, initial_frame=0, scenes=False))
    images = [driving_image] if reference is None else [reference, driving_image]
    frames = [frame for batch in animator.read(images) for frame in batch]
    if not frames[-1].found:  # too far from that of the reference to be followed
        ((frames[-1],),) = animator.read([driving_image])
    squares = [frame.image for frame in frames]
    source, driving = animator.source_image, squares[-1]
    places = _places(points, _size(source_image), animator.source)
    encoding, kp_driving = model.encode_source(source), model.detect_keypoints(driving)
    if reference is not None:
        kp_driving = transfer_motion(encoding.keypoints, kp_driving, model.detect_keypoints(squares[0]))
    motion = model.estimate_motion(encoding, kp_driving)
    inputs: list[tuple[Tensor, Tensor]] = []
    with attention.register_forward_pre_hook(lambda _, args: inputs.append(args)):
        result = model.generator.decode(encoding.image, encoding.features, motion).prediction
    ((depth_feature, feature),) = inputs
    queries = _queries(model, torch.as_tensor(places, device=source.device), motion, feature.shape[-2:])
    weights = attention.attention_map(depth_feature, feature, queries=queries)
    shown = to_uint8(torch.cat((source, driving, result)))
    on_source, on_result = torch.cat((_unwarp(model, weights, motion), weights)).cpu().numpy()
    gate = 1.0 if attention.gate is None else attention.gate.item()
    return AttentionMaps(shown[0], shown[1], shown[2], places, on_source, on_result, gate)


def face_points(image: Image) -> npt.NDArray[np.float32]:
    """Find points to visualize: both eyes, nose tip and mouth of the largest face, and a corner of the background.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        (5, 2), x, y in pixels.

    Raises:
        ValueError: if there is no face in the image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no face, which is an error here
        source = Source(image, 100, AnimateOptions())
    if not source.faces:
        raise ValueError("points: found no face in the source, expected points x,y")
    crop, (height, width) = source.crops[0], image.shape[:2]
    left = crop.center[0] > width / 2  # an upper corner of what the model sees, where there is more room
    corner = crop.to_image(np.array([8 if left else 91, 8]), source.size)
    return np.vstack([source.faces[0].points[:4], np.clip(corner, 0, [width - 1, height - 1])]).astype(np.float32)


def _size(image: Image | Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return height, width


def _places(points: Any, size: tuple[int, int], source: Source) -> npt.NDArray[np.float32]:
    """Move points from pixels of an image of that size to those of the model's input."""
    found = np.array(points, np.float32)
    if found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise ValueError(f"points: expected pairs (x, y), got an array {found.shape}")
    if not source.crops:
        return _to_square(found, size, source.size, "crop" if source.options.fit == "face" else source.options.fit)
    places = source.crops[0].from_image(found, source.size).astype(np.float32)
    for (x, y), place in zip(found, places, strict=True):
        if not (np.all(place > -0.5) and np.all(place < source.size - 0.5)):
            raise ValueError(f"point {x:g},{y:g}: expected one in the square around the face, which the model sees")
    return places


def _to_square(found: npt.NDArray[np.float32], size: tuple[int, int], side: int, fit: Fit) -> npt.NDArray[np.float32]:
    """Move points as `fit_square` moves pixels."""
    height, width = size
    extent = np.array([width, height])
    seen = extent if fit == "stretch" else np.full(2, min(size) if fit == "crop" else max(size))
    corner = -((seen - extent) // 2)  # as in `fit_square`
    for x, y in found:
        low, high = np.maximum(corner, 0), np.minimum(corner + seen, extent) - 1
        if not (np.all(low <= (x, y)) and np.all((x, y) <= high)):
            raise ValueError(
                f"point {x:g},{y:g}: expected x from {low[0]} to {high[0]} and y from {low[1]} to {high[1]}, which the "
                f"model sees of the source of {width} x {height} pixels"
            )
    return ((found + 0.5 - corner) * side / seen - 0.5).astype(np.float32)


def _queries(model: DaGAN, points: Tensor, motion: DenseMotion, size: Sequence[int]) -> Tensor:
    """Row-major positions (Q,) of the queries of points (Q, 2) in pixels of the model's input."""
    height, width = size
    scaled = (points + 0.5) / model.image_size  # in [0, 1]
    if model.generator.depth_encoder is not None:
        x, y = (scaled * torch.tensor([width, height], device=points.device)).floor().long().T
        return y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    corners = model.generator.align_corners
    targets = 2 * points / (model.image_size - 1) - 1 if corners else 2 * scaled - 1
    sampled = resize(motion.deformation.permute(0, 3, 1, 2), size, corners)[0].flatten(1).T
    return torch.cdist(targets, sampled).argmin(dim=1)


def _unwarp(model: DaGAN, weights: Tensor, motion: DenseMotion) -> Tensor:
    """Apply the transpose of the warp to weights (1, Q, h, w): its gradient, since it is linear in the image."""
    with torch.enable_grad():
        source = torch.zeros_like(weights, requires_grad=True)
        warped = warp(source, motion.deformation, align_corners=model.generator.align_corners)
        return torch.autograd.grad(warped, source, weights)[0]
