"""Adapters to third-party face models; each library is imported when its adapter is built."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._optional import require
from ..media.image import Image
from .arrays import rows, to_arrays
from .dlib_faces import dlib_faces


class FaceAlignmentLandmarks:
    """A [`LandmarkDetector`][depthaware.extractors.LandmarkDetector]: 2D-FAN of face-alignment, as in FOMM's AKD.

    Reference:
        Bulat and Tzimiropoulos 2017, How far are we from solving the 2D & 3D face alignment problem?
    """

    name = "face-alignment, 2D-FAN-4"

    def __init__(self, device: str = "cpu") -> None:
        library = require("face_alignment", pip="face-alignment")
        self.network: Any = library.FaceAlignment(library.LandmarksType.TWO_D, flip_input=False, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._points, images, (68, 2))

    def _points(self, image: Image) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "No faces were detected.", which NaN reports
            faces = self.network.get_landmarks_from_image(image)
        return max(faces, key=lambda face: np.ptp(face, axis=0).prod()) if faces else None


class FaceNetIdentity:
    """An [`IdentityEmbedder`][depthaware.extractors.IdentityEmbedder]: facenet-pytorch, 512 dimensions.

    Trained on VGGFace2. Its own detector (MTCNN) crops the largest face to 160 x 160.

    Reference:
        Schroff et al. 2015, FaceNet; Cao et al. 2018, VGGFace2.
    """

    name = "facenet-pytorch, InceptionResnetV1 vggface2"

    def __init__(self, device: str = "cpu") -> None:
        library = require("facenet_pytorch", pip="--no-deps facenet-pytorch")
        self.crop: Any = library.MTCNN(image_size=160, device=torch.device(device))
        self.network: Any = library.InceptionResnetV1(pretrained="vggface2").eval().to(device)
        self.device = device

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._embedding, images, (512,))

    @torch.no_grad()
    def _embedding(self, image: Image) -> Any:
        face = self.crop(image)  # (3, 160, 160), standardized
        return None if face is None else _unit(self.network(face[None].to(self.device))[0].cpu().numpy())


class ArcFaceIdentity:
    """An [`IdentityEmbedder`][depthaware.extractors.IdentityEmbedder]: insightface (buffalo_l), 512 dimensions.

    Reference:
        Deng et al. 2019, ArcFace.
    """

    name = "insightface, ArcFace buffalo_l"

    def __init__(self, device: str = "cpu") -> None:
        library = require("insightface.app", pip="insightface onnxruntime")
        providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider"]
        modules = ["detection", "recognition"]
        self.app: Any = library.FaceAnalysis(name="buffalo_l", allowed_modules=modules, providers=providers)
        self.app.prepare(ctx_id=_gpu(device), det_size=(640, 640))

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._embedding, images, (512,))

    def _embedding(self, image: Image) -> Any:
        faces = self.app.get(_bgr(image))
        return _unit(max(faces, key=lambda face: _area(face.bbox)).normed_embedding) if faces else None


class SixDRepNetPose:
    """A [`HeadPoseEstimator`][depthaware.extractors.HeadPoseEstimator]: 6DRepNet of sixdrepnet.

    Expects a cropped face, which dlib detects; its box is widened by a fifth on every side, as the authors do with the
    boxes of their detector. Signs as in its `draw_axis`, which are those of the protocol.

    Reference:
        Hempel et al. 2022, 6D rotation representation for unconstrained head pose estimation.
    """

    name = "sixdrepnet, 6DRepNet on faces found by dlib"

    def __init__(self, device: str = "cpu") -> None:
        library = require("sixdrepnet", pip="sixdrepnet")
        self.faces = dlib_faces()
        self.network: Any = library.SixDRepNet(gpu_id=_gpu(device))

    def __call__(self, images: Tensor) -> Tensor:
        return rows(self._angles, images, (3,))

    @torch.no_grad()
    def _angles(self, image: Image) -> Any:
        face = self.faces.find(image)
        if face is None:
            return None
        box, (height, width) = face.rect, image.shape[:2]
        more = round(0.2 * box.width())
        top, bottom = max(box.top() - more, 0), min(box.bottom() + 1 + more, height)
        left, right = max(box.left() - more, 0), min(box.right() + 1 + more, width)
        pitch, yaw, roll = self.network.predict(_bgr(image[top:bottom, left:right]))
        return float(yaw[0]), float(pitch[0]), float(roll[0])


class PyFeatActionUnits:
    """An [`ActionUnitDetector`][depthaware.extractors.ActionUnitDetector]: 20 action units of py-feat's xgb.

    It returns probabilities; an action unit counts as present from 0.5 on.

    Reference:
        Cheong et al. 2023, Py-Feat: Python facial expression analysis toolbox.
    """

    name = "py-feat Detectorv1, xgb, binarized at 0.5"

    def __init__(self, device: str = "cpu") -> None:
        library = require("feat", pip='"py-feat>=2"')
        self.detector: Any = library.Detectorv1(au_model="xgb", emotion_model=None, gaze_model=None, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = torch.from_numpy(np.stack(to_arrays(images))).permute(0, 3, 1, 2).float()  # in [0, 255]
        found = self.detector.detect(pixels, data_type="tensor", batch_size=len(pixels), progress_bar=False)
        units = np.asarray(found.aus, dtype=np.float64)
        area = np.asarray(found["FaceRectWidth"] * found["FaceRectHeight"], dtype=np.float64)
        result = np.full((len(images), units.shape[1]), np.nan, dtype=np.float32)
        for row in np.argsort(area):  # the largest face of a frame comes last; the area is NaN without a face
            if np.isfinite(area[row]):
                result[int(found["frame"].iloc[row])] = units[row] >= 0.5
        return torch.from_numpy(result)


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def _area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _gpu(device: str) -> int:
    """Index of a GPU, -1 for the CPU."""
    return -1 if torch.device(device).type == "cpu" else torch.device(device).index or 0
