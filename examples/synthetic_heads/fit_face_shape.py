"""Fit the generic 3-D face of depthaware/extractors/head_pose.py, by rigid factorization of landmarks of many persons.

    python examples/synthetic_heads/fit_face_shape.py --data PREPARED

All faces and their mirror images are treated as one rigid body seen from many directions by weak perspective (Tomasi
and Kanade 1992). That gives widths, heights, and the order of the points in depth; the mean pose is pitch 0. The scale
of the depths is given, not fitted: persons differ in width by more than turning narrows them, which would flatten the
face.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from depthaware.data import Clips
from depthaware.extractors import load
from depthaware.extractors.head_pose import STABLE
from depthaware.training.options import option, required, run_recipe

# Left and right exchanged.
MIRROR = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
MIRROR += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1)]
MIRROR += [*range(64, 59, -1), 67, 66, 65]
TIP, OUTER_RIGHT, OUTER_LEFT = (STABLE.index(i) for i in (30, 36, 45))


@dataclass(frozen=True)
class Options:
    """Clips, and the two lengths that set the scale."""

    data: str = required("a folder of clips of many persons", "prepare_clips.py makes one, see docs/data.md")
    split: str = option("train", "split of the clips")
    every: int = option(25, "use every n-th frame")
    width: float = option(90.0, "distance between the outer corners of the eyes, in millimeters")
    protrusion: float = option(43.0, "distance of the tip of the nose before them, in millimeters")


def generic_face(landmarks: Tensor, width: float, protrusion: float) -> Tensor:
    """Factorize landmarks of faces in many poses.

    Args:
        landmarks: (F, 68, 2).
        width: between the outer corners of the eyes, in the unit of the result.
        protrusion: of the tip of the nose before them, in the same unit.

    Returns:
        The stable points (N, 3): x right, y down, z forward.
    """
    both = torch.cat((landmarks, (landmarks * torch.tensor([-1.0, 1.0]))[:, MIRROR]))[:, list(STABLE)].double()
    both = both - both.mean(dim=1, keepdim=True)
    both = both / both.square().sum((1, 2), keepdim=True).sqrt()
    U, S, Vh = torch.linalg.svd(both.transpose(1, 2).flatten(0, 1), full_matrices=False)
    cameras, shape = (U[:, :3] * S[:3]).unflatten(0, (-1, 2)), Vh[:3]
    upgrade = _orthonormal(cameras)
    cameras, shape = cameras @ upgrade, torch.linalg.solve(upgrade, shape)
    U, _, Vh = torch.linalg.svd(cameras.mean(dim=0), full_matrices=False)  # the mean pose faces the camera
    x, y = U @ Vh
    face = (torch.stack((x, y, torch.linalg.cross(x, y))) @ shape).T
    face = face * width / (face[OUTER_LEFT, 0] - face[OUTER_RIGHT, 0])
    face[:, 2] *= protrusion / (face[OUTER_LEFT, 2] - face[TIP, 2])  # the sign is free, too
    return face - face.mean(dim=0)


def _orthonormal(cameras: Tensor) -> Tensor:
    """Find H (3, 3) that makes the two rows of all cameras (F, 2, 3) as orthogonal and equal in length as possible."""
    x, y = cameras.unbind(dim=1)
    rows = [torch.einsum("fi,fj->fij", a, b) for a, b in ((x, x), (y, y), (x, y))]
    upper = torch.triu_indices(3, 3)
    same, square = (((m + m.mT) / (1 + torch.eye(3)))[:, upper[0], upper[1]] for m in (rows[0] - rows[1], rows[2]))
    q = torch.linalg.svd(torch.cat((same, square)))[2][-1]
    Q = torch.zeros(3, 3, dtype=q.dtype)
    Q[upper[0], upper[1]] = Q[upper[1], upper[0]] = q
    values, vectors = torch.linalg.eigh(Q * Q.trace().sign())
    return vectors * values.clamp_min(1e-9).sqrt()


def main(options: Options) -> None:
    detect = load("landmarks", "dlib")
    clips = Clips(options.data, 256, split=options.split, cache_gb=0)
    frames = (clips.read(name, range(0, clips.length(name), options.every)) for name in clips.names)
    landmarks = torch.cat([detect(torch.from_numpy(some).permute(0, 3, 1, 2) / 255) for some in frames])
    found = landmarks.isfinite().all(2).all(1)
    print(f"{len(clips.names)} clips, {len(found)} frames, a face in {found.sum()}")
    for index, point in zip(STABLE, generic_face(landmarks[found], options.width, options.protrusion), strict=True):
        print(f"    ({', '.join(f'{value:.1f}' for value in point.tolist())}),  # {index}")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
