"""Head pose from the six points of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .face import Face

if TYPE_CHECKING:
    from .tracking import DrivingTrack


def head_pose(face: Face) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees, roughly: of a generic head fitted to the six points under weak perspective."""
    raise NotImplementedError


def pose_warning(source: Face, track: DrivingTrack) -> str | None:
    """One line that names --initial-frame if the pose of a reference frame is far from the source's, else None."""
    raise NotImplementedError
