"""A head as a signed distance field: a table of blended ellipsoids, different for every person.

Lengths are in meters. The head's own frame has its origin between the ears, x to the right of the image, y down and z
away from the camera, so that a head in the identity pose faces it.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 0.24  # the head, hair included, lies within this distance of its origin
MOUTH = 0.064  # height of the line between the lips


class Person(NamedTuple):
    """Shape of one head. The first nine are proportions, around 1.

    Attributes:
        wide: skull and jaw.
        jaw: length of the lower face.
        cheeks: fullness of the cheeks.
        nose: size of the nose.
        bridge: protrusion of the bridge of the nose.
        lips: fullness of the lips.
        brow: protrusion of the brows.
        eyes: size of the eyes.
        ears: size of the ears.
        apart: distance of each eye from the middle of the face, meters.
        hair: thickness of the hair over the skull, meters; below 0 is bald.
        locks: length of the hair beside the face, meters; 0 is short.
        hairline: height at which the hair begins, meters.
    """

    wide: float
    jaw: float
    cheeks: float
    nose: float
    bridge: float
    lips: float
    brow: float
    eyes: float
    ears: float
    apart: float
    hair: float
    locks: float
    hairline: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Person":
        """Draw a random person."""
        long, bald = rng.random(2) < (0.4, 0.15)
        return Person(
            *(float(rng.uniform(1 - s, 1 + s)) for s in (0.08, 0.1, 0.15, 0.16, 0.15, 0.3, 0.3, 0.1, 0.2)),
            apart=float(rng.uniform(0.029, 0.034)),
            hair=float(-0.02 if bald and not long else rng.uniform(0.005, 0.018)),
            locks=float(rng.uniform(0.06, 0.13)) if long else 0.0,
            hairline=float(rng.uniform(-0.03, -0.012)),
        )


class Expression(NamedTuple):
    """Facial expression.

    Attributes:
        mouth: opening of the lower jaw, meters.
        blink: 0 = eyes open, 1 = shut.
    """

    mouth: float = 0.0
    blink: float = 0.0


class Solids(NamedTuple):
    """K ellipsoids that are blended one after the other.

    Attributes:
        to_unit: (3 K, 3), linear part of the maps to the unit spheres.
        offset: (3 K, 1), their translation.
        inverse_square: (K, 3, 1), of the radii.
        blend: K widths, in meters, over which each is blended with those before it; negative ones are subtracted.
    """

    to_unit: Tensor
    offset: Tensor
    inverse_square: Tensor
    blend: list[float]


Row = tuple[tuple[float, float, float], tuple[float, float, float], float, float]
"""Center, radii, tilt in degrees (the top towards the back), blend width."""


def solids(rows: list[Row]) -> Solids:
    """Make ellipsoids from a table."""
    center, radii = (torch.tensor([row[i] for row in rows]) for i in (0, 1))
    angles = torch.tensor([math.radians(row[2]) for row in rows])
    zero, one, cos, sin = torch.zeros_like(angles), torch.ones_like(angles), angles.cos(), angles.sin()
    turn = torch.stack((one, zero, zero, zero, cos, -sin, zero, sin, cos), dim=-1).unflatten(-1, (3, 3))
    to_unit = turn / radii[..., None]
    offset = -(to_unit @ center[..., None]).view(-1, 1)
    return Solids(to_unit.flatten(0, 1), offset, radii[..., None] ** -2, [row[3] for row in rows])


def distances(table: Solids, points: Tensor) -> Tensor:
    """Signed distance (K, N) of points (3, N) to each ellipsoid: |q| (|q| - 1) / |q / radii| on the unit sphere."""
    square = torch.addmm(table.offset, table.to_unit, points).view(-1, 3, points.shape[1]).square_()
    slope = (square * table.inverse_square).sum(1).rsqrt_()
    norm = square.sum(1).sqrt_()
    return (norm - 1).mul_(norm).mul_(slope)


def blended(table: Solids, points: Tensor) -> Tensor:
    """Signed distance (N,) of points (3, N) to the blended ellipsoids."""
    first, *others = distances(table, points)
    for other, width in zip(others, table.blend[1:], strict=True):
        first = smooth_min(first, other, width) if width > 0 else smooth_max(first, -other, -width)
    return first


def smooth_min(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Smooth minimum: its corner is rounded over `width`, by at most a quarter of it."""
    return b - F.softplus(b - a, beta=4 * math.log(2) / width)


def smooth_max(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Smooth maximum, rounded in the same way."""
    return b + F.softplus(a - b, beta=4 * math.log(2) / width)


def face_table(p: Person) -> Solids:
    """Skull to ears; x is folded, so that everything beside the middle exists twice."""
    tip = -0.112 - 0.012 * (p.nose - 1)
    return solids(
        [
            ((0, -0.025, 0.012), (0.076 * p.wide, 0.092, 0.096), 0, 0),  # skull
            ((0, 0.035, -0.026), (0.061 * p.wide, 0.083 * p.jaw, 0.064), 0, 0.03),  # jaw
            ((0, 0.060 + 0.036 * p.jaw, -0.062), (0.024, 0.017, 0.018), 0, 0.025),  # chin
            ((0.036, 0.026, -0.060), (0.027 * p.cheeks, 0.026, 0.024), 0, 0.025),
            ((0.026, -0.024, -0.073), (0.026, 0.010, 0.010 + 0.006 * p.brow), 0, 0.022),
            ((p.apart, -0.001, -0.097), (0.018 * p.eyes, 0.012, 0.017), 0, -0.014),  # eye socket
            ((0, 0.010, -0.093), (0.0085 * p.nose, 0.030, 0.009 * p.bridge), 24, 0.012),  # bridge of the nose
            ((0, 0.035, tip), (0.0115 * p.nose, 0.0095, 0.0105), 0, 0.012),
            ((0.011 * p.nose, 0.039, -0.098), (0.0070, 0.0065, 0.0095), 0, 0.008),  # wings of the nose
            ((0.0055 * p.nose, 0.0455, tip + 0.009), (0.0026, 0.0024, 0.0045), 0, -0.003),  # nostrils
            ((0.008, MOUTH - 0.0052, -0.0870), (0.0145, 0.0050 * p.lips, 0.0072), 0, 0.007),
            ((0, MOUTH + 0.0054, -0.0855), (0.0190, 0.0056 * p.lips, 0.0078), 0, 0.007),
            ((0, MOUTH, -0.0950), (0.0235, 0.0009, 0.0055), 0, -0.004),  # the line between the lips
            ((0.079 * p.wide, 0.006, 0.014), (0.011, 0.031 * p.ears, 0.019 * p.ears), 12, 0.006),
            ((0.089 * p.wide, 0.004, 0.006), (0.009, 0.018 * p.ears, 0.009 * p.ears), 12, -0.006),  # hollow of the ears
        ]
    )


def rest_table(p: Person, e: Expression) -> Solids:
    """Ellipsoids that are not blended in turn: inside of the mouth, hair over the skull, locks beside it."""
    t, half, gape = p.hair, p.locks / 2, max(e.mouth / 2, 1e-4)  # a shut mouth lies within the line of the lips
    rows: list[Row] = [
        ((0, MOUTH + gape, -0.085), (0.016 + 0.2 * gape, gape + 0.0005, 0.035), 0, 0),
        ((0, -0.03, 0.016), (0.077 * p.wide + t, 0.090 + t, 0.094 + t), 0, 0),
        ((0.066 * p.wide, 0.02 + half, 0.034), (0.022 + t, 0.05 + half, 0.045), -8, 0),
    ]
    return solids(rows if p.locks else rows[:2])


class Parts(NamedTuple):
    """Signed distances of points to the parts of a head, each (N,)."""

    skin: Tensor
    hair: Tensor
    eyes: Tensor
    cavity: Tensor


class Head:
    """One person with one expression, as a signed distance field in the head's own frame."""

    def __init__(self, person: Person, expression: Expression) -> None:
        self.person, self.expression = person, expression
        self.face, self.others = face_table(person), rest_table(person, expression)
        self.eye, self.eye_radius = torch.tensor([[person.apart], [-0.001], [-0.0755]]), 0.0128 * person.eyes

    def rest(self, points: Tensor) -> Tensor:
        """Map points (3, N) of this face to those of the same face with its mouth shut."""
        x, y, z = points
        drop = self.expression.mouth * ((0.02 - z) / 0.08).clamp(0, 1)  # nothing moves behind the hinge
        share = ((y - MOUTH) / (self.expression.mouth + 0.3 * x.abs() + 1e-4)).clamp(0, 1)
        return torch.stack((x, y - drop * share, z))

    def parts(self, points: Tensor) -> Parts:
        """Signed distances of points (3, N) to the parts."""
        folded = torch.cat((points[:1].abs(), points[1:]))
        x, y, z = folded
        cavity, cap, *locks = distances(self.others, folded)
        face = blended(self.face, self.rest(folded) if self.expression.mouth else folded)
        skin = smooth_max(face, -cavity, 0.004)
        eyes = (folded - self.eye).square_().sum(0).sqrt_() - self.eye_radius
        # The plane of the hairline rises from the neck over the ears to the forehead.
        hair = smooth_max(cap, (0.79 * (y - self.person.hairline)).sub_(z, alpha=0.61), 0.01)
        if locks:
            hair = smooth_min(hair, locks[0], 0.02)
        waves = 0.0015 * torch.sin(170 * x + 35 * y) * torch.sin(90 * z + 1)
        return Parts(skin, hair + waves, eyes, cavity)

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (N,) of points (3, N) to the surface; negative inside."""
        skin, hair, eyes, _ = self.parts(points)
        return torch.minimum(torch.minimum(skin, hair), eyes)


class Body:
    """Neck and shoulders, in the frame that the head has at rest."""

    def __init__(self, person: Person) -> None:
        self.table = solids(
            [
                ((0, 0.12, 0.030), (0.052 * person.wide, 0.12, 0.052), -6, 0),
                ((0.10, 0.245, 0.05), (0.135, 0.080, 0.075), 0, 0.08),
                ((0, 0.37, 0.05), (0.20, 0.17, 0.095), 0, 0.05),
            ]
        )

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (N,) of points (3, N) to the surface."""
        return blended(self.table, torch.cat((points[:1].abs(), points[1:])))
