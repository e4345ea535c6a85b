"""Coordinates, cameras and rigid motion: pure functions on tensors.

Points are (x, y). In normalized coordinates -1 and +1 are the *centers* of the corner pixels, so pixel i of a row of
w pixels sits at ``2 i / (w - 1) - 1``. Intrinsics ``K`` are in pixels of the image that they accompany.
"""

import torch
from torch import Tensor


def coordinate_grid(
    height: int, width: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Normalized (x, y) positions of all pixel centers, (height, width, 2) in [-1, 1]."""
    # arange rather than linspace: the same rounding as `pixel_to_normalized`, and it exports.
    x = 2 * torch.arange(width, dtype=dtype or torch.get_default_dtype(), device=device) / max(width - 1, 1) - 1
    y = 2 * torch.arange(height, dtype=dtype or torch.get_default_dtype(), device=device) / max(height - 1, 1) - 1
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def pixel_to_normalized(points: Tensor, height: int, width: int) -> Tensor:
    """Map pixel positions (..., 2), centers at integers, to [-1, 1]."""
    return 2 * points / points.new_tensor([max(width - 1, 1), max(height - 1, 1)]) - 1


def normalized_to_pixel(points: Tensor, height: int, width: int) -> Tensor:
    """Inverse of [`pixel_to_normalized`][depthaware.geometry.pixel_to_normalized]."""
    return (points + 1) / 2 * points.new_tensor([max(width - 1, 1), max(height - 1, 1)])


def disparity_to_depth(disparity: Tensor, *, min_depth: float = 0.1, max_depth: float = 100.0) -> Tensor:
    """Depth of a disparity in (0, 1): its inverse, scaled so that 0 is `max_depth` and 1 is `min_depth`.

    Args:
        disparity: any shape, in [0, 1].
        min_depth: depth at disparity 1, in the (arbitrary) unit of the scene.
        max_depth: depth at disparity 0.
    """
    _check_range(min_depth, max_depth)
    return 1 / (1 / max_depth + (1 / min_depth - 1 / max_depth) * disparity)


def depth_to_disparity(depth: Tensor, *, min_depth: float = 0.1, max_depth: float = 100.0) -> Tensor:
    """Inverse of [`disparity_to_depth`][depthaware.geometry.disparity_to_depth]."""
    _check_range(min_depth, max_depth)
    return (1 / depth - 1 / max_depth) / (1 / min_depth - 1 / max_depth)


def _check_range(min_depth: float, max_depth: float) -> None:
    if not 0 < min_depth < max_depth:
        raise ValueError(f"expected 0 < min_depth < max_depth, got min_depth={min_depth}, max_depth={max_depth}")


def scale_intrinsics(K: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Intrinsics of the same camera after its image is resized.

    Args:
        K: (B, 3, 3) in pixels of an image of `from_size`.
        from_size: (height, width).
        to_size: (height, width). Corner pixel centers stay corner pixel centers, as everywhere in the library.
    """
    (h0, w0), (h1, w1) = from_size, to_size
    factors = [(w1 - 1) / max(w0 - 1, 1), (h1 - 1) / max(h0 - 1, 1), 1.0]
    return K * K.new_tensor(factors)[:, None]


def backproject(depth: Tensor, K: Tensor) -> Tensor:
    """Lift every pixel to 3-D camera coordinates: depth · K⁻¹ · (u, v, 1).

    Args:
        depth: (B, 1, H, W), positive.
        K: (B, 3, 3), pixels.

    Returns:
        (B, 3, H, W) points, x right, y down, z forward.
    """
    batch, _, height, width = depth.shape
    grid = coordinate_grid(height, width, dtype=depth.dtype, device=depth.device)
    u, v = normalized_to_pixel(grid, height, width).unbind(-1)
    fx, fy, cx, cy = (K[:, i, j].view(batch, 1, 1) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return torch.stack(((u - cx) / fx, (v - cy) / fy, torch.ones_like(u).expand(batch, -1, -1)), dim=1) * depth


def project(points: Tensor, K: Tensor, T: Tensor | None = None, *, min_z: float = 1e-3) -> Tensor:
    """Project camera points into the image of a (moved) camera, as a deformation for `warp`.

    Args:
        points: (B, 3, H, W) from `backproject`.
        K: (B, 3, 3), pixels of an H x W image.
        T: (B, 4, 4) rigid motion into the other camera; identity if None.
        min_z: points nearer than this, or behind the camera, are projected as if at this depth.

    Returns:
        (B, H, W, 2) normalized (x, y).

    Reference:
        Hong et al. 2022, section 3.2, eq. 3, together with `backproject`.
    """
    batch, _, height, width = points.shape
    flat = points.flatten(2)
    if T is not None:
        flat = T[:, :3, :3] @ flat + T[:, :3, 3:]
    image = K @ flat
    pixels = image[:, :2] / image[:, 2:].clamp_min(min_z)
    return pixel_to_normalized(pixels.transpose(1, 2).view(batch, height, width, 2), height, width)


def axis_angle_to_rotation(axis_angle: Tensor) -> Tensor:
    """Rotation matrices of axis-angle vectors (Rodrigues' formula), smooth through zero.

    Args:
        axis_angle: (..., 3), direction = axis, length = angle in radians.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    square = axis_angle.square().sum(-1)[..., None, None]
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()  # sqrt(0) has no gradient
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack((o, -z, y, z, o, -x, -y, x, o), dim=-1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=x.dtype, device=x.device) + a * cross + b * (cross @ cross)


def pose_matrix(axis_angle: Tensor, translation: Tensor) -> Tensor:
    """Rigid motion x -> R x + t as homogeneous matrices.

    Args:
        axis_angle: (B, 3), radians.
        translation: (B, 3), in the unit of depth.

    Returns:
        (B, 4, 4).
    """
    top = torch.cat((axis_angle_to_rotation(axis_angle), translation[..., None]), dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim=-2)


def invert_pose(T: Tensor) -> Tensor:
    """Inverse of rigid motions (B, 4, 4), in closed form: (Rᵀ, -Rᵀ t)."""
    rotation = T[..., :3, :3].transpose(-1, -2)
    top = torch.cat((rotation, -rotation @ T[..., :3, 3:]), dim=-1)
    return torch.cat((top, T[..., 3:, :]), dim=-2)


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Inverse of (..., 2, 2) matrices in closed form, which ONNX can express (unlike `torch.inverse`)."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    adjugate = torch.stack((d, -b, -c, a), dim=-1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b * c)[..., None, None]


def matmul_2x2(a: Tensor, b: Tensor) -> Tensor:
    """Product of (..., 2, 2) with (..., 2, n) matrices that broadcast, in full precision also under autocast.

    A coordinate in bfloat16 is off by up to a pixel at 256 px.
    """
    return (a[..., None] * b[..., None, :, :]).sum(-2)
