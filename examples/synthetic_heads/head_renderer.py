"""Sphere tracing on the CPU: color, depth and mask of a head in front of a cluttered room, from a fixed camera.

Depth is z in the camera's frame, in meters, as in `depthaware.geometry`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from head_paint import Paint, Surface, body_color, head_color, room
from head_shape import REACH, Body, Expression, Head, Person
from torch import Tensor

from depthaware.geometry import invert_pose

BLOCK = 16384  # points at a time, to limit memory
Distance = Callable[[Tensor], Tensor]


class RenderedFrame(NamedTuple):
    """A rendered frame.

    Attributes:
        image: (S, S, 3), uint8.
        depth: (S, S), meters.
        mask: (S, S), True on the head.
    """

    image: np.ndarray
    depth: np.ndarray
    mask: np.ndarray


def pixel_rays(K: Tensor, size: int, side: int) -> Tensor:
    """Unit rays (3, side²) through an image of `size` x `size` pixels; with side = size through the pixel centers."""
    at = (torch.arange(side) + 0.5) / side * size - 0.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    rays = torch.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u))).flatten(1)
    return F.normalize(rays, dim=0)


def trace(distance: Distance, origin: Tensor, rays: Tensor, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Trace rays to the first surface; returns distances (N,), infinite for rays that miss.

    Args:
        distance: signed, of points (3, N).
        origin: (3, 1), of all rays.
        rays: (3, N), unit vectors.
        start: (N,), distances to start at.
        end: (N,), distances to stop at.
        steps: maximum number of steps; a ray that has not converged by then, close to an outline, is a miss.
    """
    result, alive, t = torch.full_like(start, math.inf), torch.arange(start.numel()), start
    before, move = torch.full_like(t, math.inf), torch.ones_like(t)
    for step in range(steps):
        blocks = zip(t.split(BLOCK), rays.split(BLOCK, dim=1), strict=True)
        d = torch.cat([distance(origin + some * ray) for some, ray in blocks])
        hit = d.abs() < (1e-4 if step < steps // 2 else 5e-4)
        result[alive[hit]] = t[hit]
        # Near the surface, which is flat there, take a secant step; elsewhere a shortened step, as blending and the jaw
        # stretch space a little.
        fall = ((before - d) / move).clamp(0.25, 1)
        move = torch.where(d.abs() < 3e-3, d / fall, 0.9 * d)
        t = t + move
        keep = ~hit & (t < end)
        if not keep.any():
            break
        alive, rays = alive[keep], rays[:, keep]
        t, end, before, move = (x[keep] for x in (t, end, d, move))
    return result


def trace_pyramid(distance: Distance, origin: Tensor, levels: list[Tensor], reach: float) -> list[Tensor]:
    """Trace grids of increasing density; rays start just before the hits of their coarser neighbors, if there are any.

    Args:
        distance: signed, of points (3, N), of something within `reach` of zero.
        origin: (3, 1), of all rays.
        levels: grids of rays, (3, n²) each, n doubling.
        reach: radius of the bounding sphere.

    Returns:
        Distances (n²,) of each level, as from `trace`.
    """
    found: list[Tensor] = []
    for rays in levels:
        along = -(origin * rays).sum(0)
        inside = along.square() - origin.square().sum() + reach**2
        half = inside.clamp_min(0).sqrt()
        start = along - half
        if found:
            side = math.isqrt(len(found[-1]))
            nearest = -F.max_pool2d(-found[-1].view(1, 1, side, side), 3, stride=1, padding=1)
            start = F.interpolate(nearest, scale_factor=2.0).flatten() - 0.01
        chosen = ((inside > 0) & start.isfinite()).nonzero()[:, 0]
        t = torch.full_like(along, math.inf)
        t[chosen] = trace(distance, origin, rays[:, chosen], start[chosen], (along + half)[chosen], 14 if found else 20)
        found.append(t)
    return found


def normals(distance: Distance, points: Tensor, step: float = 7e-4) -> Tensor:
    """Outward unit normals (3, N) at surface points, from distances at the corners of a tetrahedron."""
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])[..., None]
    return F.normalize(torch.stack([c * distance(points + step * c) for c in corners]).sum(0), dim=0)


def lit(color: Tensor, distance: Distance, points: Tensor, to_head: Tensor, paint: Paint) -> Tensor:
    """Shade a diffuse surface with a lamp, ambient light, and occlusion in hollows."""
    normal = normals(distance, points)
    lamp = 0.5 + 0.5 * ((to_head @ paint.light[:, None]) * normal).sum(0)
    open_sky = (0.25 + distance(points + 0.012 * normal) / 0.016).clamp(0.25, 1)
    return color * open_sky * (paint.ambient + (1.25 - paint.ambient) * lamp.square())


class Stage:
    """A person in a room, seen by one camera; the room and the body do not move and are rendered once.

    Args:
        rng: for the person, the colors and the room.
        K: (3, 3), pixels.
        size: side of the frames in pixels; even.
        home: (4, 4), pose of the head at rest, to which the body belongs.
        samples: rays per pixel and direction, 1 or 2, for anti-aliasing.
    """

    def __init__(self, rng: np.random.Generator, K: Tensor, size: int, home: Tensor, *, samples: int = 2) -> None:
        self.person, self.paint = Person.draw(rng), Paint.draw(rng)
        self.size, self.samples = size, samples
        self.levels = [pixel_rays(K, size, side) for side in (size // 2, size, *([2 * size] if samples == 2 else []))]
        seed = rng.integers(2**31)  # the same room for all densities of rays
        self.static = [self._static(np.random.default_rng(seed), rays, home) for rays in self.levels[1:]]

    def _static(self, rng: np.random.Generator, rays: Tensor, home: Tensor) -> Surface:
        back, body = room(rng, self.paint, rays, float(home[2, 3])), Body(self.person)
        to_body = invert_pose(home[None])[0]
        origin, rays = to_body[:3, 3:], to_body[:3, :3] @ rays
        t = trace(body.distance, origin, rays, torch.full_like(back.t, 0.2), back.t, 40)
        met = t.isfinite()
        points = origin + t[met] * rays[:, met]
        shade = lit(body_color(self.paint, points), body.distance, points, to_body[:3, :3], self.paint)
        back.color[:, met], back.t[met] = shade, t[met]
        return back

    def render(self, pose: Tensor, expression: Expression) -> RenderedFrame:
        """Render one frame.

        Args:
            pose: (4, 4), from the head's frame to the camera's.
            expression: of the face.
        """
        head, to_head = Head(self.person, expression), invert_pose(pose[None])[0]
        origin, turn = to_head[:3, 3:], to_head[:3, :3]
        levels = [turn @ rays for rays in self.levels]
        _, *found = trace_pyramid(head.distance, origin, levels, REACH)
        mask = found[0] < self.static[0].t
        depth = torch.minimum(found[0], self.static[0].t) * self.levels[1][2]
        met = (found[-1] < self.static[-1].t).nonzero()[:, 0]
        color = self.static[-1].color.clone()
        for some in met.split(BLOCK):
            points = origin + found[-1][some] * levels[-1][:, some]
            color[:, some] = lit(head_color(head, self.paint, points), head.distance, points, turn, self.paint)
        side = self.size * self.samples
        image = F.avg_pool2d(color.clamp(0, 1).view(1, 3, side, side), self.samples)[0].permute(1, 2, 0)
        square = (self.size, self.size)
        return RenderedFrame(
            (image * 255).round().byte().numpy(), depth.view(square).numpy(), mask.view(square).numpy()
        )
