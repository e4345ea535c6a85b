"""Faces in images: a detector whose weights are part of the package."""

from typing import TYPE_CHECKING, Any

from .. import submodules
from .face import Face, FaceDetector, roll

if TYPE_CHECKING:
    from .detector import BlazeFaceDetector as BlazeFaceDetector
    from .dlib_detector import DlibFaceDetector as DlibFaceDetector

__all__ = ["BlazeFaceDetector", "DlibFaceDetector", "Face", "FaceDetector", "roll"]


def __getattr__(name: str) -> Any:
    if name == "BlazeFaceDetector":  # needs PyTorch, which a crop or a track alone does not
        from .detector import BlazeFaceDetector

        return BlazeFaceDetector
    if name == "DlibFaceDetector":
        from .dlib_detector import DlibFaceDetector

        return DlibFaceDetector
    return submodules(__name__)(name)
