"""Head pose from landmarks: closed-form fit of a rigid generic face under weak perspective."""

import torch
from torch import Tensor

from .protocols import LandmarkDetector

# Points that move little with the expression: ends of the brows, corners of the eyes, nose, corners of the mouth.
STABLE = (17, 21, 22, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45, 48, 54)

# Their positions on a generic face in millimeters around their center: x to the right of the image, y down, z away from
# the camera. From a rigid factorization of the landmarks of 185 clips; the scale of the depths is set so that the tip
# of the nose is 43 mm in front of the outer corners of the eyes, as on an average adult face:
# python examples/synthetic_heads/fit_face_shape.py
# fmt: off
FACE = (
    (-59.9, -31.5, 24.4), (-12.2, -37.8, -1.5), (12.2, -37.8, -1.5), (59.9, -31.5, 24.4),
    (0.0, -22.0, -2.7), (0.0, -10.4, -10.3), (0.0, 1.2, -18.6), (0.0, 13.1, -26.4),
    (-14.5, 23.5, -9.7), (-7.5, 25.7, -13.1), (0.0, 27.5, -15.3), (7.5, 25.7, -13.1), (14.5, 23.5, -9.7),
    (-45.0, -18.2, 16.6), (-19.6, -17.4, 10.7), (19.6, -17.4, 10.7), (45.0, -18.2, 16.6),
    (-27.2, 51.1, 9.4), (27.2, 51.1, 9.4),
)
# fmt: on


def rotation_from_landmarks(landmarks: Tensor) -> Tensor:
    """Head pose angles of the rotation that maps a generic face to the landmarks.

    The affine map from the face to the image is fitted by least squares and projected to the nearest rotation by its
    singular value decomposition, so that the result does not depend on position, size or camera.

    Args:
        landmarks: (B, 68, 2), (x, y) in pixels or any unit that is the same in x and y; rows of NaN stand for no face.

    Returns:
        (B, 3) yaw, pitch and roll in degrees, with the signs of
        [`HeadPoseEstimator`][depthaware.extractors.HeadPoseEstimator]; NaN where there is no face.

    Raises:
        ValueError: if the shape differs.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks: expected (B, 68, 2), got {tuple(landmarks.shape)}")
    found = landmarks.isfinite().all(dim=2).all(dim=1)
    angles = landmarks.new_full((len(landmarks), 3), float("nan"))
    angles[found] = angles_from_rotation(_nearest_rotation(landmarks[found])).to(angles)
    return angles


def _nearest_rotation(landmarks: Tensor) -> Tensor:
    """(B, 68, 2) -> (B, 3, 3)."""
    points = landmarks[:, STABLE].double()
    points = points - points.mean(dim=1, keepdim=True)
    face = torch.tensor(FACE, dtype=torch.float64, device=landmarks.device)
    affine = points.transpose(1, 2) @ torch.linalg.pinv(face - face.mean(dim=0)).T  # (B, 2, 3)
    U, _, Vh = torch.linalg.svd(affine, full_matrices=False)
    x, y = (U @ Vh).unbind(dim=1)
    return torch.stack((x, y, torch.linalg.cross(x, y)), dim=1)


def angles_from_rotation(R: Tensor) -> Tensor:
    """Yaw, pitch and roll in degrees of R = R_z(roll) R_y(yaw) R_x(-pitch); x points right, y down, z forward.

    Args:
        R: (B, 3, 3), rotation from the axes of the head to those of the camera.

    Returns:
        (B, 3), yaw in [-90, 90].
    """
    yaw = torch.atan2(-R[:, 2, 0], torch.hypot(R[:, 0, 0], R[:, 1, 0]))
    pitch = -torch.atan2(R[:, 2, 1], R[:, 2, 2])
    roll = torch.atan2(R[:, 1, 0], R[:, 0, 0])
    return torch.stack((yaw, pitch, roll), dim=1).rad2deg()


class LandmarkPose:
    """A [`HeadPoseEstimator`][depthaware.extractors.HeadPoseEstimator] based on any landmark detector.

    Args:
        landmarks: detector of the landmarks.
    """

    def __init__(self, landmarks: LandmarkDetector) -> None:
        self.landmarks = landmarks
        self.name = f"generic 3-D face fitted to landmarks of {landmarks.name}"

    def __call__(self, images: Tensor) -> Tensor:
        return rotation_from_landmarks(self.landmarks(images))
