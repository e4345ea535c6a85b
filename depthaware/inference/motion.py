"""Driving key points scene by scene: their references, held where there is no face, smoothed."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from ..keypoints import Keypoints
from .driving import DrivingFrame
from .smoothing import Hold, KeypointSmoother


class DrivingMotion:
    """Motion of consecutive driving frames, each scene against its own reference.

    Args:
        smooth: filter the key points over time.

    Attributes:
        references: key points (batch 1) from which the motion of a scene starts, by number of the scene.
    """

    def __init__(self, *, smooth: bool) -> None:
        self.smooth = smooth
        self.references: dict[int, Keypoints] = {}
        self._scene = -1

    def __call__(
        self, keypoints: Keypoints, frames: Sequence[DrivingFrame]
    ) -> Iterator[tuple[Keypoints, Keypoints | None]]:
        """Yield the key points of consecutive frames of one scene with its reference, None if that is still to come.

        Args:
            keypoints: of the frames, (B, N, 2).
            frames: B of them, those after the frames of the call before.
        """
        for index, frame in enumerate(frames):
            if frame.is_reference:
                self.references.setdefault(frame.scene, select(keypoints, slice(index, index + 1)))
        for scene, group in groupby(range(len(frames)), key=lambda index: frames[index].scene):
            rows = list(group)
            part = select(keypoints, slice(rows[0], rows[-1] + 1))
            reference = self.references.get(scene)
            if reference is not None:
                part = self._filter(scene, reference, part, [frames[row] for row in rows])
            yield part, reference

    def _filter(self, scene: int, reference: Keypoints, part: Keypoints, frames: Sequence[DrivingFrame]) -> Keypoints:
        if scene != self._scene:
            self._scene, self._hold, self._smoother = scene, Hold(reference), KeypointSmoother()
        times = [float(frame.time) for frame in frames]
        part = self._hold(part, [frame.found for frame in frames], times)
        return self._smoother(part, times) if self.smooth else part


def select(keypoints: Keypoints, rows: slice) -> Keypoints:
    """Key points of some of the images; a slice, since a list of rows would have to be sent to the device."""
    value, jacobian = keypoints
    return Keypoints(value[rows], None if jacobian is None else jacobian[rows])


def join(keypoints: Sequence[Keypoints]) -> Keypoints:
    """Key points of several batches as one."""
    values, jacobians = zip(*keypoints, strict=True)
    return Keypoints(torch.cat(values), None if jacobians[0] is None else torch.cat(jacobians))


def pose_distance(kp_source: Keypoints, kp_driving: Keypoints) -> Tensor:
    """Measure how far the poses of driving frames are from the source's, up to position and size of the faces.

    Args:
        kp_source: (1, N, 2).
        kp_driving: (B, N, 2).

    Returns:
        (B,), 0 for the same pose.
    """

    def shape(keypoints: Keypoints) -> Tensor:
        centered = keypoints.value - keypoints.value.mean(dim=1, keepdim=True)
        return centered / centered.norm(dim=(1, 2), keepdim=True).clamp_min(1e-8)

    return (shape(kp_driving) - shape(kp_source)).norm(dim=(1, 2))
