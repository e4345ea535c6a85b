"""Direct alignment: relative camera motion of two frames from their pixels and a known depth, without a network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import backproject, coordinate_grid, pose_matrix, project, scale_intrinsics
from .warp import sample


def align_frames(
    target: Tensor,
    neighbor: Tensor,
    depth: Tensor,
    K: Tensor,
    *,
    shrink: tuple[int, ...] = (4, 2, 1),
    steps: int = 5,
    tolerance: float = 0.05,
) -> Tensor:
    """Estimate the rigid motion of the face in the middle of the image, an alternative to `PoseNet`.

    Gauss-Newton steps on the color differences, coarse to fine, starting from the identity. Pixels have three weights:
    larger towards the middle, where the face is; smaller where the frames are equal, as in a static background; smaller
    where the difference remains large, as in regions that a turning face uncovers. The only gradient is that of the
    translation to the depth's scale: both grow together, so that shrinking the scene cannot reduce the loss.

    Args:
        target: (B, C, H, W) in [0, 1].
        neighbor: likewise.
        depth: (B, 1, H, W) of the target, positive. A flat depth leaves out-of-plane rotations undetermined.
        K: (B, 3, 3), pixels.
        shrink: factors by which both frames are down-sampled, coarsest first.
        steps: Gauss-Newton steps at each size.
        tolerance: color difference at which the weight of a pixel is halved.

    Returns:
        (B, 4, 4), from the target's camera to the neighbor's; the translation is in the unit of depth.

    Raises:
        ValueError: if the shapes do not fit, or H and W are no multiples of the largest `shrink`.

    Reference:
        Lucas and Kanade 1981; Kerl et al. 2013, for the depth and the robust weights.
    """
    _check(target, neighbor, depth, shrink)
    distance = 1 / (1 / depth).mean((1, 2, 3), keepdim=True)[:, 0]
    T = _aligned(target, neighbor, depth.detach(), K, shrink, steps, tolerance)
    shift = T[:, :3, 3:] * (distance / distance.detach())
    return torch.cat((torch.cat((T[:, :3, :3], shift), dim=2), T[:, 3:]), dim=1)


@torch.no_grad()
def _aligned(
    target: Tensor, neighbor: Tensor, depth: Tensor, K: Tensor, shrink: tuple[int, ...], steps: int, tolerance: float
) -> Tensor:
    height, width = target.shape[-2:]
    T = torch.eye(4, dtype=depth.dtype, device=depth.device).repeat(len(depth), 1, 1)
    with torch.autocast(depth.device.type, enabled=False):  # autocast would round coordinates
        for factor in shrink:
            small = (F.avg_pool2d(x.to(depth.dtype), factor) for x in (target, neighbor, depth))
            small_target, small_neighbor, small_depth = small
            camera = scale_intrinsics(K.to(depth.dtype), (height, width), (height // factor, width // factor))
            for _ in range(steps):
                T = _step(T, small_target, small_neighbor, small_depth, camera, tolerance)
    return T


def _step(T: Tensor, target: Tensor, neighbor: Tensor, depth: Tensor, K: Tensor, tolerance: float) -> Tensor:
    """One Gauss-Newton step on the weighted squared color difference, over the six parameters of a small motion."""
    points = backproject(depth, K)
    positions = project(points, K, T)
    slope_x, slope_y = _slopes(neighbor)
    warped, slope_x, slope_y = sample(
        torch.cat((neighbor, slope_x, slope_y), dim=1), positions, padding_mode="border"
    ).chunk(3, dim=1)
    moved = T[:, :3, :3] @ points.flatten(2) + T[:, :3, 3:]
    pivot = moved.mean(dim=2, keepdim=True)  # rotating around the head, not the camera, decouples the six
    jacobian = _jacobian(moved, pivot, slope_x.flatten(2), slope_y.flatten(2), K)
    difference = (warped - target).flatten(2)
    weight = (_weight(target, neighbor, positions) / (1 + (difference.abs().mean(1) / tolerance) ** 2))[:, None, None]
    weighted = (jacobian * weight).flatten(2)
    normal = weighted @ jacobian.flatten(2).mT
    # Levenberg's damping regularizes what the images leave undetermined, as without texture.
    normal = normal + torch.diag_embed(1e-3 * normal.diagonal(dim1=1, dim2=2) + 1e-6)
    step = -torch.linalg.solve(normal, weighted @ difference.flatten(1)[..., None])[..., 0]
    update = pose_matrix(step[:, :3].clamp(-0.2, 0.2), torch.zeros_like(step[:, 3:]))
    shift = step[:, 3:].clamp(-0.1, 0.1)[..., None] * pivot[:, 2:]
    update[:, :3, 3:] = pivot - update[:, :3, :3] @ pivot + shift
    return update @ T


def _jacobian(points: Tensor, pivot: Tensor, slope_x: Tensor, slope_y: Tensor, K: Tensor) -> Tensor:
    """(B, 6, C, N): derivative of the colors by a rotation around the pivot and a shift in units of its distance."""
    depth = points[:, 2:].clamp_min(1e-3)
    along_x, along_y = slope_x * K[:, :1, :1] / depth, slope_y * K[:, 1:2, 1:2] / depth
    along_z = -(along_x * points[:, :1] + along_y * points[:, 1:2]) / depth
    pull = torch.stack((along_x, along_y, along_z), dim=1)
    arm = (points - pivot)[:, :, None].expand_as(pull)
    return torch.cat((torch.linalg.cross(arm, pull, dim=1), pull * pivot[:, 2:, None]), dim=1)


def _weight(target: Tensor, neighbor: Tensor, positions: Tensor) -> Tensor:
    """(B, N) weights in [0, 1]: high in the middle, inside of the neighbor, and where the frames differ."""
    grid = coordinate_grid(*target.shape[-2:], dtype=target.dtype, device=target.device)
    middle = torch.exp(-2 * grid.square().sum(-1))
    inside = (positions.abs().amax(-1) < 1).to(target.dtype)
    moving = F.avg_pool2d((neighbor - target).abs().mean(1, keepdim=True), 3, 1, 1)[:, 0]
    return (middle * inside * (moving / (moving + 0.03)).square()).flatten(1)


def _slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    x = F.pad(image, (1, 1, 0, 0), mode="replicate")
    y = F.pad(image, (0, 0, 1, 1), mode="replicate")
    return (x[..., 2:] - x[..., :-2]) / 2, (y[..., 2:, :] - y[..., :-2, :]) / 2


def _check(target: Tensor, neighbor: Tensor, depth: Tensor, shrink: tuple[int, ...]) -> None:
    if neighbor.shape != target.shape:
        raise ValueError(f"neighbor: expected the target's shape {tuple(target.shape)}, got {tuple(neighbor.shape)}")
    expected = (len(target), 1, *target.shape[-2:])
    if depth.shape != expected:
        raise ValueError(f"depth: expected {expected}, got {tuple(depth.shape)}")
    if any(side % max(shrink) for side in expected[2:]):
        raise ValueError(f"target: expected sides in multiples of {max(shrink)}, got {expected[2]} x {expected[3]}")
