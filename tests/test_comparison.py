"""Laws of the comparison of models."""

from functools import partial
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from clips import draw_image, make_clip, make_moving_clip
from conftest import TINY
from skimage.data import astronaut

import depthaware
from depthaware import DaGAN, read_video
from depthaware.faces import BlazeFaceDetector
from depthaware.faces.crop import face_crop
from depthaware.inference import comparison
from depthaware.inference.comparison import Pair
from depthaware.inference.depth_maps import gray_painter
from depthaware.media.image import to_uint8, write_image
from depthaware.media.panels import resize_image
from depthaware.media.video import Video
from depthaware.retrofit import fomm
from depthaware.retrofit.animation import AnimatedFOMM, load_animated_fomm

animate = partial(depthaware.animate, fit="crop", initial_frame=0)
compare, compare_to_file = (partial(made, fit="crop") for made in (comparison.compare, comparison.compare_to_file))
SIDE, GAP, LINE = 160, 6, 21  # of panels, between them, and of the captions, in pixels
SOURCE, OTHER = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def models(tiny_model) -> dict[str, DaGAN]:
    torch.manual_seed(1)
    return {"ours": tiny_model, "no depth": DaGAN(**TINY, keypoint_input="rgb", attention="none", blend=True).eval()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return read_video(make_moving_clip(tmp_path_factory.mktemp("clips") / "moving.mp4"))


def panel(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = LINE + row * (SIDE + GAP), column * (SIDE + GAP)
    return sheet[top : top + SIDE, left : left + SIDE]


def large(image: np.ndarray) -> np.ndarray:
    return resize_image(image, (SIDE, SIDE))


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_columns_are_what_animate_makes(models, clip, mode):
    pairs = [Pair(SOURCE, clip), Pair(OTHER, clip)]
    sheet = compare(models, pairs, frames=[30, 0, 7], mode=mode)
    assert sheet.shape == (LINE + 6 * SIDE + 5 * GAP, 4 * SIDE + 3 * GAP, 3)
    for i, pair in enumerate(pairs):
        for column, model in enumerate(models.values(), start=2):
            made = list(animate(model, pair.source, clip, mode=mode))
            for j, index in enumerate((30, 0, 7)):
                row = 3 * i + j
                assert abs(panel(sheet, row, column).astype(int) - large(made[index].image)).max() <= 1
                np.testing.assert_array_equal(panel(sheet, row, 1), large(made[index].driving))
                np.testing.assert_array_equal(panel(sheet, row, 0), large(pair.source))


def test_an_image_drives_absolutely(models):
    sheet = compare(models, [Pair(SOURCE, OTHER)], mode="relative")
    for column, model in enumerate(models.values(), start=2):
        (made,) = animate(model, SOURCE, [OTHER], mode="absolute")
        np.testing.assert_array_equal(panel(sheet, 0, column), large(made.image))


def test_faces_are_cut_out_of_whole_photos(models):
    photo = astronaut()
    sheet = comparison.compare(models, [Pair(photo, photo[:300, 80:380])])
    crop = face_crop(BlazeFaceDetector()([photo])[0][0])
    for column in (0, 1):
        assert abs(panel(sheet, 0, column).astype(int) - large(crop.read(photo, 64))).mean() < 6
    (made,) = depthaware.animate(models["ours"], photo, [photo[:300, 80:380]], mode="absolute", paste=False)
    assert abs(panel(sheet, 0, 2).astype(int) - large(made.image)).max() <= 1
    pairs = [Pair(photo, photo)]
    assert abs(comparison.compare(models, pairs).astype(int) - compare(models, pairs)).mean() > 6


def test_depth_has_columns_of_its_own(models):
    sheet = compare(models, [Pair(SOURCE, OTHER)], depth=True)
    assert sheet.shape[1] == 6 * SIDE + 5 * GAP
    for column, image in ((2, SOURCE), (3, OTHER)):
        expected = to_uint8(gray_painter(models["ours"], image)(image))[0]
        np.testing.assert_array_equal(panel(sheet, 0, column), large(expected))
    with pytest.raises(ValueError, match="depth: expected a model with a depth network, got no depth"):
        compare({"no depth": models["no depth"]}, [Pair(SOURCE, OTHER)], depth=True)


def test_the_middle_frame_is_shown_unless_others_are_named(models, clip):
    pairs = [Pair(SOURCE, clip)]
    np.testing.assert_array_equal(compare(models, pairs), compare(models, pairs, frames=[20]))
    with pytest.raises(ValueError, match=r"moving.mp4: expected frames from 0 to 39, got 40"):
        compare(models, pairs, frames=[3, 40])


def test_captions_stand_above_their_columns(models):
    names = {"i": models["ours"], "": models["ours"], "a name far too long for its column": models["ours"]}
    line = compare(names, [Pair(SOURCE, OTHER)])[:LINE]
    ink = [(255 - line[:, i * (SIDE + GAP) :][:, :SIDE].astype(int)).sum() for i in range(5)]
    assert 0 == ink[3] < ink[2] < min(ink[:2]) and ink[4] > max(ink[:2])
    assert line[:, SIDE : SIDE + GAP].min() == 255


def test_a_video_shows_the_sheets_one_after_the_other(models, clip, tmp_path, monkeypatch):
    short = read_video(make_clip(tmp_path / "short.mp4", 5, (64, 64)))
    pairs = [Pair(draw_image(), clip), Pair(draw_image(9), short)]
    done, read = [], []
    decode = Video.__iter__
    monkeypatch.setattr(Video, "__iter__", lambda video: read.append(video) or decode(video))
    written = compare_to_file(models, pairs, tmp_path / "a.mp4", progress=lambda *numbers: done.append(numbers))
    assert (written.frames, done) == (5, [(i, 5) for i in range(1, 6)])
    assert read == [clip, short]  # once for all models
    video = read_video(tmp_path / "a.mp4")
    frames = [frame.image for frame in video]
    assert len(frames) == 5
    for index, frame in enumerate(frames):
        sheet = compare(models, pairs, frames=[index]).astype(int)
        assert abs(frame[: sheet.shape[0], : sheet.shape[1]] - sheet).mean() < 4


def test_videos_that_do_not_fit_are_one_line(models, clip, tmp_path):
    write_image(tmp_path / "1.png", SOURCE)
    slow = read_video(tmp_path, rate=10)
    for driving, message in ((OTHER, "for a video, got an image"), (slow, r"of one frame rate, got \[10.0, 25.0\]")):
        with pytest.raises(ValueError, match="a.mp4: expected driving videos " + message):
            compare_to_file(models, [Pair(SOURCE, clip), Pair(SOURCE, driving)], tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_models_of_different_sizes_are_one_line(models):
    other = DaGAN(**TINY | {"image_size": 128}).eval()
    with pytest.raises(ValueError, match="models: expected one image size, got ours 64, other 128"):
        compare({"ours": models["ours"], "other": other}, [Pair(SOURCE, OTHER)])
    with pytest.raises(ValueError, match="models: expected one image size, got no model"):
        compare({}, [Pair(SOURCE, OTHER)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fomm") / "fomm.pth.tar"
    net = checkpoints.model(**checkpoints.FOMM)
    with torch.no_grad():
        for parameter in net.parameters():  # fresh weights draw gray whatever they are given
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.save(checkpoints.content(net), path)
    return path


@pytest.fixture(scope="module")
def retrofit(checkpoint, tiny_model) -> Path:
    pair = fomm.retrofit(*fomm.load_fomm(checkpoint), tiny_model.depth_net)
    fomm.save_retrofit(checkpoint.with_name("retrofit"), *pair)
    return checkpoint.with_name("retrofit")


@torch.no_grad()
def test_fomm_by_its_own_calls_is_the_converted_one(checkpoint, clip):
    """A released checkpoint as a DaGAN, and as FOMM's networks with FOMM's dictionaries, with and without depth."""
    converted, ours = DaGAN.from_checkpoint(checkpoint), AnimatedFOMM(*fomm.load_fomm(checkpoint), image_size=64)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    results = []
    for model in (converted, ours):
        source = model.encode_source(images[:1])
        keypoints = model.detect_keypoints(images)
        results.append((model.drive(source, keypoints), *keypoints))
    assert results[0][0].shape == (3, 3, 64, 64)
    for expected, found in zip(*results, strict=True):
        assert (expected[0] - expected[1]).abs().max() > 1e-5
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_an_untrained_retrofit_is_the_fomm_that_it_was_made_of(checkpoint, retrofit, tiny_model, clip):
    bare = AnimatedFOMM(*fomm.load_fomm(checkpoint), image_size=64)
    loaded = load_animated_fomm(retrofit, checkpoint, tiny_model.depth_net, image_size=64)
    sheet = compare({"bare": bare, "retrofit": loaded}, [Pair(SOURCE, clip)], frames=[9])
    np.testing.assert_array_equal(panel(sheet, 0, 2), panel(sheet, 0, 3))
    assert not loaded.training
    with pytest.raises(ValueError, match="expected a depth network like that of the retrofit"):
        load_animated_fomm(retrofit, checkpoint, None)
