"""Faces in images: a detector whose weights are part of the package."""

from .. import submodules
from .face import Face, FaceDetector, roll

__all__ = ["Face", "FaceDetector", "roll"]

__getattr__ = submodules(__name__)
