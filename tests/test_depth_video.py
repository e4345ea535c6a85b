"""Depth of videos and faces: one range for the whole video, and the square around the face."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import depthaware
from depthaware import DaGAN
from depthaware.cli.main import main
from depthaware.faces import BlazeFaceDetector
from depthaware.faces.crop import face_crop
from depthaware.inference.depth_maps import depth_to_file, gray_painter, video_painter
from depthaware.media.image import read_image, write_image
from depthaware.media.video import Frame, read_video, write_video

CLIP = [frame.image for frame in islice(read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4"), 10)]
BLACK = [np.zeros_like(CLIP[0])] * 10


@pytest.fixture(scope="module")
def model():
    return DaGAN.from_pretrained("dagan-tiny")


def test_black_frames_do_not_change_the_grays_of_the_others(model):
    paint = video_painter(model, CLIP, len(CLIP))
    for frames in (BLACK + CLIP, CLIP + BLACK, [image // 40 for image in CLIP] + CLIP):
        torch.testing.assert_close(video_painter(model, frames, len(frames))(CLIP[3]), paint(CLIP[3]))
    assert video_painter(model, BLACK, 10)(BLACK[0]).isfinite().all()


def test_few_pixels_of_a_video_are_clipped(model):
    paint = video_painter(model, CLIP, len(CLIP))
    gray = torch.cat([paint(image) for image in CLIP])
    assert ((gray == 0) | (gray == 1)).float().mean() < 0.02
    assert gray.std() > 0.1


def test_a_long_video_is_sampled_evenly(model):
    """24 frames and no more, of which the last lies in the last 24th."""
    seen = []
    frames = (seen.append(index) or CLIP[index % 10] for index in range(240))
    chosen = video_painter(model, frames, 240)
    assert seen[-1] >= 230
    assert chosen(CLIP[0]).shape == (1, 1, 256, 256)


def test_the_face_is_cut_out_as_in_animate(model, tmp_path):
    photo = np.ascontiguousarray(data.astronaut())
    write_image(tmp_path / "photo.png", photo)
    main(["depth", str(tmp_path / "photo.png"), "--fit", "face", "--output", str(tmp_path / "d.png"), "--compare"])
    crop = face_crop(BlazeFaceDetector()([photo])[0][0])
    shown = read_image(tmp_path / "d.png")
    side = shown.shape[0]
    assert side == pytest.approx(crop.side, abs=1)
    square = crop.read(photo, side)
    assert abs(shown[:, :side].astype(int) - square).max() <= 1
    expected = gray_painter(model, square)(square)[0, 0].numpy() * 255
    assert abs(shown[:, side:, 0] - expected).max() <= 1.5


def test_the_square_of_a_video_has_one_size_and_no_face_means_whole_frames(model, tmp_path):
    for name, frames in (("face", BLACK[:2] + CLIP[:4]), ("black", BLACK[:3])):
        with write_video(tmp_path / f"{name}.mp4", (256, 256), Fraction(25), Fraction(1, 25)) as write:
            for index, image in enumerate(frames):
                write(Frame(image, Fraction(index, 25)))
    info = depth_to_file(model, read_video(tmp_path / "face.mp4"), tmp_path / "d.mp4", fit="face")
    assert info.size[0] == info.size[1] < 256
    assert read_video(tmp_path / "d.mp4").frames == 6
    with pytest.warns(UserWarning, match="no face found: the depth is that of whole frames"):
        info = depth_to_file(model, read_video(tmp_path / "black.mp4"), tmp_path / "d.mp4", fit="face")
    assert info.size == (256, 256)
