"""Head pose from the six points of a face."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .face import Face

if TYPE_CHECKING:
    from .tracking import DrivingTrack

FAR = 20  # degrees between two poses, from which on relative motion starts wrong
BETTER = 10  # degrees by which another frame must be nearer to be worth naming

# The six points on a generic head in millimeters: x to the right of the image, y down, z away from the camera. Least
# squares over 6138 frames of 251 clips, given the poses that 68 landmarks have there, made symmetric; see
# docs/driving-videos.md for the error.
HEAD = np.array(
    (
        (-31.0, -22.3, -7.3),
        (31.0, -22.3, -7.3),
        (0.0, 9.5, -47.0),
        (0.0, 42.7, -30.0),
        (-64.2, -3.8, 45.8),
        (64.2, -3.8, 45.8),
    )
)


def head_rotation(face: Face) -> npt.NDArray[np.float64]:
    """Rotation (3, 3) that turns a generic upright frontal head into the pose of the face, under weak perspective."""
    points = face.points - face.points.mean(axis=0)
    affine = points.T.astype(float) @ np.linalg.pinv(HEAD - HEAD.mean(axis=0)).T
    U, _, Vh = np.linalg.svd(affine, full_matrices=False)
    x, y = U @ Vh
    return np.stack((x, y, np.cross(x, y)))


def pose_angle(a: Face, b: Face) -> float:
    """Angle in degrees, from 0 to 180, of the rotation between the poses of two heads.

    Six points give each pose to about 5 degrees, which expression and face shape shift.
    """
    cosine = (np.trace(head_rotation(a) @ head_rotation(b).T) - 1) / 2
    return math.degrees(math.acos(min(max(float(cosine), -1.0), 1.0)))


def pose_warning(source: Face, track: DrivingTrack) -> str | None:
    """Describe in one line a start of relative motion in a pose far from the source's.

    Args:
        source: the face of the source image.
        track: of the driving video.

    Returns:
        None unless the pose in the first reference frame is more than 20 degrees from the source's and another frame of
        that scene is nearer by 10.
    """
    reference = track.references[0]
    start = None if reference is None else track.faces[reference]
    if start is None:
        return None
    angle = pose_angle(source, start)
    scene = [face for face, number in zip(track.faces, track.scenes, strict=True) if face is not None and number == 0]
    nearest = min(pose_angle(source, face) for face in scene)
    if angle <= FAR or angle - nearest < BETTER:
        return None
    return (
        f"driving frame {reference}: the head is turned by {angle:.0f} degrees from the source's, another frame by "
        f"{nearest:.0f}; --initial-frame best starts from the nearest"
    )
