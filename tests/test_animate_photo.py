"""Whole photos animated: the face found, cropped, moved, pasted back."""

import warnings
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from clips import draw_image
from skimage import data

import depthaware
from depthaware import DaGAN
from depthaware.faces import BlazeFaceDetector
from depthaware.inference import AnimateOptions, Animator, animate, animate_to_file, optimize
from depthaware.media.image import read_image
from depthaware.media.video import read_video, write_video

ASSETS = Path(depthaware.__file__).parent / "assets"
PHOTO = data.astronaut()[:384]
FACE = np.s_[60:180, 170:280]  # of the astronaut


@pytest.fixture(scope="module")
def model():
    return optimize(DaGAN.from_pretrained("dagan-tiny"))


@pytest.fixture(scope="module")
def driving() -> list[np.ndarray]:
    """Three frames, the head turned in the last two, left in an image of another shape."""
    frames = [frame.image for frame in islice(read_video(ASSETS / "driving.mp4"), 0, 80, 39)]
    return [np.pad(frame, ((30, 60), (0, 150), (0, 0))) for frame in frames]


def images(frames) -> np.ndarray:
    return np.stack([frame.image for frame in frames]).astype(int)


def motion(frames: np.ndarray, region) -> float:
    return np.stack([frame[region] for frame in frames]).std(0).mean()


@pytest.fixture(scope="module")
def moving(model, driving) -> np.ndarray:
    return images(animate(model, PHOTO, driving))


def test_the_face_moves_in_its_photo_and_nothing_else_does(moving):
    assert moving.shape == (3, *PHOTO.shape)
    assert motion(moving, FACE) > 10
    np.testing.assert_array_equal(moving[:, 250:], np.broadcast_to(PHOTO[250:], (3, *PHOTO[250:].shape)))
    assert abs(moving[0] - PHOTO)[FACE].mean() < 8  # the initial frame is the source itself


def test_the_square_alone_is_what_is_pasted(model, driving, moving):
    squares = images(animate(model, PHOTO, driving, paste=False))
    animator = Animator(model, PHOTO)
    assert squares.shape == (3, 256, 256, 3)
    pasted = [animator.source.output([square.astype(np.uint8)]) for square in squares]
    np.testing.assert_array_equal(pasted, moving)


def test_cameras_are_followed_frame_by_frame(model, driving, moving):
    animator = Animator(model, PHOTO)
    camera = [driving[0]] * 3 + driving[1:]  # a good reference is known after some frames
    live = np.stack([animator(image, index / 25) for index, image in enumerate(camera)]).astype(int)
    assert abs(live - images(animate(model, PHOTO, iter(camera), batch_size=2))).max() <= 1
    assert motion(live, FACE) > 10
    assert abs(live[0] - moving[0]).mean() < 2
    animator.restart()
    still = [animator(draw_image(index), index).astype(int) for index in (0, 3)]  # no face yet
    assert abs(still[0] - still[1]).max() <= 2


@pytest.mark.parametrize(
    "face, moves", [("all", (True, True)), ("largest", (True, False)), (0, (True, False)), (1, (False, True))]
)
def test_the_chosen_faces_move(model, driving, face, moves):
    frames = images(animate(model, group(), driving, face=face))
    left, right = motion(frames, FACE), motion(frames, np.s_[60:160, 512 + 130 : 512 + 220])
    assert (left > 5, right > 5) == moves


def group() -> np.ndarray:
    """The astronaut twice, the second time smaller."""
    small = np.asarray(PIL.Image.fromarray(PHOTO).resize((400, 300)))
    return np.concatenate((PHOTO, np.pad(small, ((0, 84), (0, 0), (0, 0)), mode="edge")), axis=1)


def test_there_is_no_third_face(model, driving):
    with pytest.raises(ValueError, match="face: expected one of the 2 faces, 0 to 1, got 2"):
        animate(model, group(), driving, face=2)


def test_without_a_face_the_central_square_is_taken_with_a_warning(model, driving):
    with pytest.warns(UserWarning, match="no face found in the source image"):
        without = images(animate(model, draw_image(), driving[:2]))
    assert without.shape == (2, 256, 256, 3)
    with pytest.warns(UserWarning, match="no face found in the driving video"):
        result = images(animate(model, PHOTO, [draw_image(0), draw_image(5)]))
    assert result.shape == (2, *PHOTO.shape)


def test_explicit_fits_look_for_no_face(tiny_model, monkeypatch):
    def called(*_):
        raise AssertionError

    monkeypatch.setattr(BlazeFaceDetector, "__call__", called)
    for fit in ("crop", "pad", "stretch"):
        frames = animate(tiny_model, PHOTO, [draw_image(0), draw_image(5)], fit=fit, initial_frame=0)
        assert images(frames).shape == (2, 64, 64, 3)


def test_large_photos_are_shrunk(model, driving):
    frames = images(animate(model, PHOTO.repeat(5, 0).repeat(5, 1), driving[:2], max_size=640))
    assert frames.shape == (2, 480, 640, 3)
    assert motion(frames, np.s_[75:225, 212:350]) > 5


def test_each_scene_starts_from_its_own_reference(model, driving):
    other = [image[:, ::-1] for image in driving]
    video = [driving[0]] * 3 + [driving[2]] * 3 + [other[2]] * 3 + [other[0]] * 3
    frames = images(animate(model, PHOTO, video, batch_size=5))
    animator = Animator(model, PHOTO, AnimateOptions(batch_size=5))
    list(animator.read(video))
    assert len(animator.initial_frames) == 2
    for index in animator.initial_frames.values():
        assert abs(frames[index] - PHOTO)[FACE].mean() < 8


def test_files_keep_the_shape_of_the_photo(model, driving, tmp_path):
    with write_video(tmp_path / "clip.mp4", driving[0].shape[:2], Fraction(25)) as write:
        for frame in islice(read_video(ASSETS / "driving.mp4"), 3):
            write(type(frame)(np.pad(frame.image, ((30, 60), (0, 150), (0, 0))), frame.time))
    clip, lines = read_video(tmp_path / "clip.mp4"), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = animate_to_file(
            model, PHOTO, clip, tmp_path / "a.mp4", compare=True, save_depth=tmp_path / "d.mp4", notes=lines.append
        )
    assert done.size == (384, 2 * 512 + 384) == read_video(tmp_path / "a.mp4").size
    assert read_video(tmp_path / "d.mp4").size == (256, 256)
    assert lines == [f"initial frame: {lines[0].split()[-1]}"]
    shown = next(iter(read_video(tmp_path / "a.mp4"))).image.astype(int)
    assert abs(shown[:, :512] - PHOTO).mean() < 4


def test_the_bundled_portrait_is_a_face_crop_already(model):
    portrait = read_image(ASSETS / "portrait.png")
    source = Animator(model, portrait).source
    np.testing.assert_array_equal(source.crops[0].read(portrait, 256), portrait)
    square = np.random.default_rng(0).integers(0, 255, (256, 256, 3), "u1")
    np.testing.assert_array_equal(source.output([square]), square)
