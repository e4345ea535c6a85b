"""Extractors of face features for the metrics: landmarks, identity, head pose, expression and action units."""

from collections.abc import Callable
from typing import Literal, overload

from .adapters import ArcFaceIdentity, FaceAlignmentLandmarks, FaceNetIdentity, PyFeatActionUnits, SixDRepNetPose
from .dlib_faces import DlibIdentity, DlibLandmarks, DlibMeanLandmarks
from .expression import LandmarkExpression
from .head_pose import LandmarkPose, rotation_from_landmarks
from .protocols import (
    ActionUnitDetector,
    ExpressionEstimator,
    FaceExtractor,
    HeadPoseEstimator,
    IdentityEmbedder,
    LandmarkDetector,
)

__all__ = [
    "ActionUnitDetector",
    "ArcFaceIdentity",
    "DlibIdentity",
    "DlibLandmarks",
    "DlibMeanLandmarks",
    "ExpressionEstimator",
    "FaceAlignmentLandmarks",
    "FaceExtractor",
    "FaceNetIdentity",
    "HeadPoseEstimator",
    "IdentityEmbedder",
    "LandmarkDetector",
    "LandmarkExpression",
    "LandmarkPose",
    "PyFeatActionUnits",
    "SixDRepNetPose",
    "available",
    "load",
    "rotation_from_landmarks",
]

# The first of each kind is the default of `load`.
_EXTRACTORS: dict[str, dict[str, Callable[[str], FaceExtractor]]] = {
    "landmarks": {
        "dlib": lambda device: DlibLandmarks(),
        "dlib-mean": lambda device: DlibMeanLandmarks(),
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
    "expression": {
        "dlib-mean": lambda device: LandmarkExpression(DlibMeanLandmarks()),
        "dlib": lambda device: LandmarkExpression(DlibLandmarks()),
        "face-alignment": lambda device: LandmarkExpression(FaceAlignmentLandmarks(device)),
    },
    "action-units": {"py-feat": PyFeatActionUnits},
}


@overload
def load(kind: Literal["landmarks"], name: str | None = None, device: str = "cpu") -> LandmarkDetector: ...
@overload
def load(kind: Literal["identity"], name: str | None = None, device: str = "cpu") -> IdentityEmbedder: ...
@overload
def load(kind: Literal["pose"], name: str | None = None, device: str = "cpu") -> HeadPoseEstimator: ...
@overload
def load(kind: Literal["expression"], name: str | None = None, device: str = "cpu") -> ExpressionEstimator: ...
@overload
def load(kind: Literal["action-units"], name: str | None = None, device: str = "cpu") -> ActionUnitDetector: ...
@overload
def load(kind: str, name: str | None = None, device: str = "cpu") -> FaceExtractor: ...
def load(kind: str, name: str | None = None, device: str = "cpu") -> FaceExtractor:
    """Build an extractor: a callable of images (B, 3, H, W) in [0, 1], with a `name`.

    Args:
        kind: "landmarks" for a [`LandmarkDetector`][depthaware.extractors.LandmarkDetector], "identity" for an
            [`IdentityEmbedder`][depthaware.extractors.IdentityEmbedder], "pose" for a
            [`HeadPoseEstimator`][depthaware.extractors.HeadPoseEstimator], "expression" for an
            [`ExpressionEstimator`][depthaware.extractors.ExpressionEstimator], "action-units" for an
            [`ActionUnitDetector`][depthaware.extractors.ActionUnitDetector].
        name: one of `available(kind)`; by default the first, which works offline except for action units.
        device: of the network ("cpu", "cuda"); dlib runs on the CPU. Results are always on the CPU.

    Raises:
        ValueError: if the kind or name is unknown.
        ImportError: if its library is not installed.
    """
    names = available(kind)
    name = names[0] if name is None else name
    if name not in names:
        raise ValueError(f"extractor of {kind}: expected one of {', '.join(names)}, got {name!r}")
    return _EXTRACTORS[kind][name](device)


def available(kind: str) -> tuple[str, ...]:
    """Names of the extractors of a kind, installed or not."""
    if kind not in _EXTRACTORS:
        raise ValueError(f"kind of extractor: expected one of {', '.join(_EXTRACTORS)}, got {kind!r}")
    return tuple(_EXTRACTORS[kind])
