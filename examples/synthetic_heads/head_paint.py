"""Colors of heads, bodies and rooms: solid textures, fine enough that neighboring frames can be matched."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from head_shape import MOUTH, Expression, Head, Person
from torch import Tensor


class Paint(NamedTuple):
    """Colors of a person and of the room; RGB are (3,) in [0, 1].

    Attributes:
        skin: RGB.
        lips: RGB.
        hair: RGB.
        iris: RGB.
        clothes: two RGB.
        stripes: width of the checks, meters.
        freckles: 0 to 1.
        beard: 0 to 1.
        light: (3,), towards the lamp.
        ambient: share of light without direction.
        noise: (1, 1, n, n, n), random lattice from which all textures are made.
    """

    skin: Tensor
    lips: Tensor
    hair: Tensor
    iris: Tensor
    clothes: tuple[Tensor, Tensor]
    stripes: float
    freckles: float
    beard: float
    light: Tensor
    ambient: float
    noise: Tensor

    @staticmethod
    def draw(rng: np.random.Generator) -> "Paint":
        """Draw random colors."""
        dark = rng.random()
        skin = (np.array([0.93, 0.74, 0.62]) * (1 - dark) + np.array([0.40, 0.26, 0.19]) * dark) * rng.uniform(0.9, 1)
        hairs = np.array([[0.11, 0.09, 0.08], [0.30, 0.19, 0.11], [0.66, 0.50, 0.28], [0.55, 0.54, 0.53]])
        irises = np.array([[0.30, 0.18, 0.08], [0.25, 0.45, 0.62], [0.30, 0.42, 0.25]])
        light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.9, -0.2), -0.8])
        lattice = torch.from_numpy(rng.random((1, 1, 32, 32, 32), dtype=np.float32))
        rgb = [skin, skin * (0.85, 0.5, 0.5), hairs[rng.integers(4)] * rng.uniform(0.8, 1.2), irises[rng.integers(3)]]
        return Paint(
            *(torch.from_numpy(color).float() for color in rgb),
            clothes=tuple(torch.from_numpy(_muted(rng)).float() for _ in range(2)),
            stripes=float(rng.uniform(0.008, 0.02)),
            freckles=float(rng.uniform(0.1, 0.6)),
            beard=float(rng.uniform(0.3, 0.8) * (rng.random() < 0.25)),
            light=torch.from_numpy(light / np.linalg.norm(light)).float(),
            ambient=float(rng.uniform(0.35, 0.55)),
            noise=F.pad(lattice, (0, 1) * 3, mode="circular"),
        )


class Surface(NamedTuple):
    """Hits of rays.

    Attributes:
        t: (N,), distance along the ray, infinite without a hit.
        color: (3, N), RGB in [0, 1].
    """

    t: Tensor
    color: Tensor


def noise(lattice: Tensor, points: Tensor, cell: float | tuple[float, float, float]) -> Tensor:
    """Smooth noise (N,) in [-1, 1] at points (3, N), which changes over `cell` meters along each axis."""
    period = lattice.shape[-1] - 1
    wrapped = (points / torch.tensor(cell, dtype=points.dtype).expand(3)[:, None]).remainder(period) * 2 / period - 1
    return 2 * F.grid_sample(lattice, wrapped.T[None, None, None], align_corners=True).flatten() - 1


def head_color(head: Head, paint: Paint, points: Tensor) -> Tensor:
    """Color (3, N) of surface points of the head, in its own frame."""
    parts, rest = head.parts(points), head.rest(points)
    color = _skin(head.person, paint, rest)
    color = torch.where(parts.cavity < 0.0008, _mouth(rest, points, head.expression), color)
    color = torch.where((parts.eyes < parts.skin) & (parts.eyes < parts.hair), _eyes(head, paint, points), color)
    strands = noise(paint.noise, rest, (0.0028, 0.03, 0.0028)) + 0.5 * noise(paint.noise, rest, (0.012, 0.06, 0.012))
    return torch.where(parts.hair < parts.skin, paint.hair[:, None] * (1 + 0.55 * strands), color)


def _skin(person: Person, paint: Paint, rest: Tensor) -> Tensor:
    x, y, z = rest[0].abs(), rest[1], rest[2]
    fine, grain = noise(paint.noise, rest, 0.0065), noise(paint.noise, rest + 1, 0.0034)
    shade = 1 + 0.10 * noise(paint.noise, rest, 0.024) + 0.09 * fine + 0.07 * grain
    color = paint.skin[:, None] * shade
    flush = torch.exp(-((x - 0.036) ** 2 + (y - 0.028) ** 2) / 0.0004) + torch.exp(-(x**2 + (y - 0.036) ** 2) / 0.0002)
    color = color * (1 - torch.tensor([[0.0], [0.13], [0.11]]) * flush)
    color = color * (1 - paint.freckles * ((noise(paint.noise, rest + 2, 0.0045) - 0.45) * 4).clamp(0, 1))
    stubble = paint.beard * ((y - 0.025 - 0.3 * (0.06 - x)) / 0.02).clamp(0, 1) * (z < 0.0) * (0.75 + 0.5 * grain)
    color = torch.lerp(color, paint.hair[:, None].expand_as(color), stubble.clamp(0, 1))
    lips = ((x / 0.0235) ** 2 + ((y - MOUTH) / (0.0105 * person.lips**0.5)) ** 2 < 1) & (z < -0.07)
    color = torch.where(lips, paint.lips[:, None] * (1 + 0.2 * grain), color)
    arch = (y + 0.0255 - 0.12 * (x - person.apart).abs()) / 0.0048
    brows = ((((x - person.apart) / 0.019) ** 2 + arch**2) < 1) & (z < -0.04)
    hairs = 0.75 + 0.5 * noise(paint.noise, rest, (0.002, 0.006, 0.004))
    return torch.where(brows, 0.7 * paint.hair[:, None] * hairs, color)


def _mouth(rest: Tensor, points: Tensor, expression: Expression) -> Tensor:
    """Color the upper teeth, and the dark inside."""
    _, y, z = points
    teeth = (y < MOUTH + 0.35 * expression.mouth) & (z > -0.092) & (z < -0.06)
    gaps = 0.85 + 0.15 * torch.cos(points[0] * (2 * math.pi / 0.007))
    ivory = torch.tensor([[0.86], [0.83], [0.76]]) * gaps
    return torch.where(teeth, ivory, torch.tensor([[0.30], [0.09], [0.08]]).expand_as(rest))


def _eyes(head: Head, paint: Paint, points: Tensor) -> Tensor:
    """Color sclera, iris, pupil and a highlight between the lids, which are skin."""
    x, y, _ = (torch.cat((points[:1].abs(), points[1:])) - head.eye) / head.eye_radius
    radius = (x**2 + y**2).sqrt()
    color = torch.tensor([[0.93], [0.91], [0.89]]) * (1 - 0.25 * x**2)
    spokes = 1 + 0.25 * torch.sin(9 * torch.atan2(y, x))
    color = torch.where(radius < 0.46, paint.iris[:, None] * spokes, color)
    color = torch.where(radius < 0.21, torch.tensor([[0.03]]), color)
    color = torch.where((x - 0.14) ** 2 + (y + 0.16) ** 2 < 0.012, torch.tensor([[1.0]]), color)
    gap = (1 - (x / 0.93) ** 2).clamp_min(0)  # almond between the lids; the upper lid closes
    upper, lower = -0.40 * gap + 0.74 * gap * head.expression.blink, 0.40 * gap
    lid = (y < upper) | (y > lower)
    lash = lid & (y > upper - 0.17) & (y < lower)
    color = torch.where(lid, _skin(head.person, paint, points) * 0.9, color)
    return torch.where(lash, 0.25 * paint.skin[:, None], color)


def body_color(paint: Paint, points: Tensor) -> Tensor:
    """Color (3, N) of points of the body: a neck, and checked clothes from the collar down."""
    x, y, z = points
    check = (torch.sin(x * (math.pi / paint.stripes)) * torch.sin(y * (math.pi / paint.stripes)) > 0).float()
    weave = 1 + 0.15 * noise(paint.noise, points, 0.006)
    clothes = torch.lerp(paint.clothes[0][:, None], paint.clothes[1][:, None], check) * weave
    neck = paint.skin[:, None] * (1 + 0.12 * noise(paint.noise, points, 0.012) + 0.08 * weave)
    return torch.where(y < 0.165 - 0.35 * z, neck, clothes)


def room(rng: np.random.Generator, paint: Paint, rays: Tensor, head_depth: float, shapes: int = 24) -> Surface:
    """Render a wall with rectangles in front of it, each with its own depth and pattern."""
    wall = head_depth + rng.uniform(0.6, 1.5)
    t, color = torch.full_like(rays[0], math.inf), torch.zeros_like(rays)
    for i in range(shapes + 1):
        depth = wall if i == 0 else rng.uniform(head_depth + 0.25, wall)
        place, half = rng.uniform(-0.45, 0.45, 2) * depth, rng.uniform(0.02, 0.13, 2) * depth + (1e3 if i == 0 else 0)
        ground, ink = (torch.from_numpy(_muted(rng)[:, None]).float() for _ in range(2))
        cell, stripe = rng.uniform(0.008, 0.04, 2) * depth
        points = rays * (depth / rays[2])
        inside = ((points[0] - place[0]).abs() < half[0]) & ((points[1] - place[1]).abs() < half[1])
        nearer = inside & (points.norm(dim=0) < t)
        mix = 0.5 + 0.5 * noise(paint.noise, points + i, cell)
        if rng.random() < 0.5:
            mix = 0.5 * mix + 0.5 * (torch.sin((points[0] + points[1] * rng.integers(-1, 2)) * 6 / stripe) > 0)
        t = torch.where(nearer, points.norm(dim=0), t)
        color = torch.where(nearer, torch.lerp(ground, ink, mix), color)
    return Surface(t, color)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """Draw a color of low saturation."""
    return rng.uniform(0.1, 0.85) + rng.uniform(-0.22, 0.22, 3)
