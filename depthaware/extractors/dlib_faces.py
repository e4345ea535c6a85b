"""Landmarks and identity embeddings by dlib, whose weights are part of a package: nothing is downloaded."""

import math
from functools import cache
from typing import Any

import numpy as np
from PIL import Image as Pillow
from torch import Tensor

from .._optional import require
from ..faces.dlib_detector import dlib_weights
from ..media.image import Image
from .arrays import Cached, rows


class DlibFaces:
    """Detector of the largest face in an image and its landmarks, with cached results.

    The detector (histograms of oriented gradients) finds faces of 80 pixels and more. Images smaller than 256 pixels
    are doubled in size until they are not; at 256 pixels, doubling costs four times as much and found no more faces.
    """

    def __init__(self) -> None:
        self.dlib = dlib = require("dlib", "eval")
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(dlib_weights("shape_predictor_68_face_landmarks.dat")))
        self.find = Cached(self._find)

    def _find(self, image: Image) -> Any:
        """Landmarks of the largest face as dlib's `full_object_detection`, or None."""
        doublings = max(0, math.ceil(math.log2(256 / min(image.shape[:2]))))
        faces = self.detector(image, doublings)
        return self.predictor(image, max(faces, key=lambda face: face.area())) if faces else None


@cache
def dlib_faces() -> DlibFaces:
    """Return the instance shared by all extractors, so that each image is searched once."""
    return DlibFaces()


class DlibLandmarks:
    """A [`LandmarkDetector`][depthaware.extractors.LandmarkDetector]: HOG detector and regression trees, whole pixels.

    Reference:
        Kazemi and Sullivan 2014, One millisecond face alignment with an ensemble of regression trees.
    """

    name = "dlib HOG, shape_predictor_68_face_landmarks"

    def __init__(self) -> None:
        self.faces = dlib_faces()

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._points, images, (68, 2))

    def _points(self, image: Image) -> Any:
        face = self.faces.find(image)
        return None if face is None else [(point.x, point.y) for point in face.parts()]


class DlibMeanLandmarks:
    """A [`LandmarkDetector`][depthaware.extractors.LandmarkDetector]: mean of `DlibLandmarks` over five boxes.

    dlib's landmarks are whole pixels and change with the box that they start from, too much for eyelids. Here the box
    is found as there, moved and scaled by 3 %, and the landmarks of an image of twice the size are averaged.
    """

    name = "dlib HOG, shape_predictor_68_face_landmarks, mean of five boxes at twice the size"

    def __init__(self) -> None:
        self.faces = dlib_faces()
        self.find = Cached(self._points)

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self.find, images, (68, 2))

    def _points(self, image: Image) -> Any:
        face = self.faces.find(image)
        if face is None:
            return None
        height, width = image.shape[:2]
        large = np.asarray(Pillow.fromarray(image).resize((2 * width, 2 * height), Pillow.Resampling.BICUBIC))
        found = [self.faces.predictor(large, box).parts() for box in self._boxes(face.rect)]
        points = np.mean([[(point.x, point.y) for point in parts] for parts in found], axis=0)
        return (points - 0.5) / 2  # centers of pixels are integers in both images

    def _boxes(self, box: Any) -> list[Any]:
        """The box and four others around it, in an image of twice the size."""
        step = 0.03 * box.width()
        return [
            self.faces.dlib.rectangle(
                round(2 * (box.left() + step * (x - grow))),
                round(2 * (box.top() + step * (y - grow))),
                round(2 * (box.right() + step * (x + grow))),
                round(2 * (box.bottom() + step * (y + grow))),
            )
            for x, y, grow in ((0, 0, 0), (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        ]


class DlibIdentity:
    """An [`IdentityEmbedder`][depthaware.extractors.IdentityEmbedder]: dlib's ResNet, 128 dimensions.

    Its authors compare unnormalized embeddings by distance; here they are scaled to length 1, for CSIM.
    """

    name = "dlib_face_recognition_resnet_model_v1, normalized"

    def __init__(self) -> None:
        self.faces = dlib_faces()
        weights = dlib_weights("dlib_face_recognition_resnet_model_v1.dat")
        self.network = self.faces.dlib.face_recognition_model_v1(str(weights))
        self.embed = Cached(self._embedding)

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self.embed, images, (128,))

    def _embedding(self, image: Image) -> Any:
        face = self.faces.find(image)
        if face is None:
            return None
        embedding = np.array(self.network.compute_face_descriptor(image, face))
        return embedding / np.linalg.norm(embedding)
