"""What the metrics need to know of a face: landmarks, identity, head pose, action units."""

from collections.abc import Callable
from typing import Any

from .adapters import ArcFaceIdentity, FaceAlignmentLandmarks, FaceNetIdentity, PyFeatActionUnits, SixDRepNetPose
from .dlib_faces import DlibIdentity, DlibLandmarks
from .head_pose import LandmarkPose, rotation_from_landmarks
from .protocols import ActionUnitDetector, HeadPoseEstimator, IdentityEmbedder, LandmarkDetector

__all__ = [
    "ActionUnitDetector",
    "ArcFaceIdentity",
    "DlibIdentity",
    "DlibLandmarks",
    "FaceAlignmentLandmarks",
    "FaceNetIdentity",
    "HeadPoseEstimator",
    "IdentityEmbedder",
    "LandmarkDetector",
    "LandmarkPose",
    "PyFeatActionUnits",
    "SixDRepNetPose",
    "available",
    "load",
    "rotation_from_landmarks",
]

# The first of each kind is what `load` takes unasked.
_EXTRACTORS: dict[str, dict[str, Callable[[str], Any]]] = {
    "landmarks": {
        "dlib": lambda device: DlibLandmarks(),
        "face-alignment": FaceAlignmentLandmarks,
    },
    "identity": {
        "dlib": lambda device: DlibIdentity(),
        "facenet": FaceNetIdentity,
        "insightface": ArcFaceIdentity,
    },
    "pose": {
        "dlib": lambda device: LandmarkPose(DlibLandmarks()),
        "face-alignment": lambda device: LandmarkPose(FaceAlignmentLandmarks(device)),
        "6drepnet": SixDRepNetPose,
    },
    "action-units": {"py-feat": PyFeatActionUnits},
}


def load(kind: str, name: str | None = None, device: str = "cpu") -> Any:
    """Make an extractor: a callable of images (B, 3, H, W) in [0, 1], with a `name`.

    Args:
        kind: "landmarks", "identity", "pose" or "action-units"; what it makes of images is said at
            [`LandmarkDetector`][depthaware.extractors.LandmarkDetector] and its neighbors.
        name: one of `available(kind)`; by default the first, which runs offline but for action units.
        device: where the network runs ("cpu", "cuda"); dlib runs on the CPU. Results are always on the CPU.

    Raises:
        ValueError: if there is none of that kind and name, or its library is not installed.
    """
    names = available(kind)
    name = names[0] if name is None else name
    if name not in names:
        raise ValueError(f"extractor of {kind}: expected one of {', '.join(names)}, got {name!r}")
    return _EXTRACTORS[kind][name](device)


def available(kind: str) -> tuple[str, ...]:
    """The names of the extractors of a kind, installed or not."""
    if kind not in _EXTRACTORS:
        raise ValueError(f"kind of extractor: expected one of {', '.join(_EXTRACTORS)}, got {kind!r}")
    return tuple(_EXTRACTORS[kind])
