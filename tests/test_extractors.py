"""Landmarks, identity and head pose of real faces by dlib, and the arrays that libraries get."""

import importlib.util
from itertools import islice
from pathlib import Path

import fit_face_shape
import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee
from torch import Tensor

import depthaware
from depthaware.extractors import load
from depthaware.extractors.arrays import Cached
from depthaware.media.image import fit_square
from depthaware.media.video import read_video

needs_dlib = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="needs depthaware[eval]"
)
KINDS = ("landmarks", "identity", "pose", "action-units")


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    return tensor(astronaut()[:256, 96:352])


@pytest.fixture(scope="module")
def driving() -> Tensor:
    """Four frames of another person."""
    video = read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4")
    return torch.cat([tensor(frame.image) for frame in islice(video, 0, 60, 15)])


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
def test_landmarks_scale_with_the_image(portrait, size):
    """Corner center to corner center is not what a resize keeps, hence the half pixels."""
    small = load("landmarks")(fit_square(portrait, size))
    expected = (load("landmarks")(portrait) + 0.5) * size / 256 - 0.5
    assert (small - expected).abs().mean() < 0.025 * 90 * size / 256  # of the width between the eyes' outer corners


@needs_dlib
def test_a_face_that_moves_with_the_image_has_the_same_landmarks(portrait):
    moved = load("landmarks")(portrait.roll((8, 8), dims=(2, 3)))
    assert (moved - load("landmarks")(portrait) - 8).abs().max() <= 1


@needs_dlib
def test_a_mirrored_image_has_the_mirrored_landmarks(portrait, driving):
    faces = torch.cat((portrait, driving))
    mirrored = load("landmarks")(faces.flip(-1))[:, fit_face_shape.MIRROR]
    expected = load("landmarks")(faces) * torch.tensor([-1, 1]) + torch.tensor([255, 0])
    assert (mirrored - expected).abs().mean() < 2


@needs_dlib
def test_a_person_resembles_themselves_more_than_another(portrait, driving):
    copies = torch.cat((portrait, (portrait * 1.15).clamp(0, 1), portrait.roll((2, 3), dims=(2, 3))))
    embeddings = load("identity")(torch.cat((copies, driving)))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(7))
    cosine = embeddings @ embeddings.T
    assert cosine[:3, :3].min() > 0.95 and cosine[3:, 3:].min() > 0.95
    assert cosine[:3, 3:].min() > 0.75 and cosine[:3, 3:].max() < 0.9


@needs_dlib
def test_the_pose_of_a_real_face_turns_with_the_image(portrait, driving):
    faces = torch.cat((portrait, driving))
    pose = load("pose")
    found, mirrored = pose(faces), pose(faces.flip(-1))
    assert (found * torch.tensor([-1, 1, -1]) - mirrored).abs().mean() < 2
    points = load("landmarks")(faces)
    off_center = points[:, 30, 0] - points[:, [36, 45], 0].mean(dim=1)
    turned = found[:, 0].abs() > 10
    assert turned.any() and (off_center[turned] * found[turned, 0] < 0).all()  # yaw is positive to the left


@needs_dlib
@pytest.mark.parametrize("kind", ("landmarks", "identity", "pose"))
def test_no_face_is_nan_and_a_batch_is_one_after_the_other(kind, portrait, driving):
    nothing = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    damaged = portrait.clone()
    damaged[0, 0, 0, 0] = torch.nan
    batch = torch.cat(
        (torch.zeros_like(nothing), portrait, nothing, tensor(coffee()[:256, :256]), damaged, driving[:1])
    )
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
def test_an_image_is_searched_once_for_all_extractors(portrait, monkeypatch):
    landmarks, identity, pose = (load(kind) for kind in KINDS[:3])
    searched = []
    shared = landmarks.faces
    monkeypatch.setattr(shared, "detector", lambda *args: searched.append(args) or [])
    image = portrait.flip(-2).clone()
    for extract in (landmarks, identity, pose, landmarks):
        assert extract(image).isnan().all()
    assert len(searched) == 1


def test_the_cache_is_bounded_and_right():
    double = Cached(lambda image: int(image.sum()) * 2, size=3)
    images = [np.full((2, 2, 3), value, dtype=np.uint8) for value in range(5)]
    for image in (*images, *images[::-1], images[1].reshape(1, 4, 3)):
        assert double(image) == 24 * image.flat[0]
        assert len(double.results) <= 3
