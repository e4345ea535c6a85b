"""Squares around faces, and squares pasted back."""

import math

import numpy as np
import pytest
from clips import draw_image
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, transform

from depthaware.faces import BlazeFaceDetector
from depthaware.faces.crop import FACTOR, LIFT, Crop, face_crop, whole_image
from depthaware.faces.face import Face
from depthaware.faces.paste import FEATHER, Paste, _robust_mean

ASTRONAUT = data.astronaut()
squares = st.builds(
    Crop,
    st.tuples(st.floats(0, 511), st.floats(0, 511)),
    st.floats(40, 500),
    st.sampled_from([0.0, 0.0, -0.5, 0.2, math.pi / 2]),
)


def upright_face(x: float, y: float, side: float, tilt: float = 0.0) -> Face:
    eyes = np.array([[-1, 0], [1, 0], [0, 1], [0, 2], [-2, 0], [2, 0]]) * side / 6
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Face(box, (eyes @ turn + [x, y]).astype(np.float32), 0.9)


@given(squares, st.integers(16, 256))
def test_points_come_back_from_a_square(crop, size):
    points = np.random.default_rng(0).uniform(0, 511, (20, 2))
    np.testing.assert_allclose(crop.to_image(crop.from_image(points, size), size), points, atol=1e-6)
    corner = crop.to_image(np.array([-0.5, -0.5]), size)
    assert math.dist(corner, crop.center) == pytest.approx(crop.side / math.sqrt(2))


@given(squares)
@settings(max_examples=20, deadline=None)
def test_reading_is_skimages_warp_of_the_repeated_edge(crop):
    image = (np.mgrid[:512, :512].sum(0)[..., None] / 4.1).repeat(3, -1).astype(np.uint8)
    size = round(crop.side)  # no resizing, which needs anti-aliasing
    u, v = np.meshgrid(np.arange(size), np.arange(size))
    x, y = np.moveaxis(crop.to_image(np.stack((u, v), axis=-1), size), -1, 0)
    expected = transform.warp(image[..., 0], np.array([y, x]), order=1, mode="edge", preserve_range=True)
    assert abs(crop.read(image, size)[..., 0] - expected)[2:-2, 2:-2].max() < 4


def test_reading_smooths_when_it_shrinks():
    board = np.indices((256, 256)).sum(0)[..., None].repeat(3, -1) % 2 * 255
    assert abs(Crop((127.5, 127.5), 200).read(board.astype(np.uint8), 20).astype(int) - 127).max() < 8


@pytest.mark.parametrize("center", [(-300.0, 40.0), (20.0, 900.0)])
def test_a_square_wholly_outside_is_the_edge(center):
    assert Crop(center, 100).read(draw_image(), 32).shape == (32, 32, 3)


@given(st.floats(-50, 400), st.floats(-50, 400), st.floats(10, 200), st.floats(-0.6, 0.6))
def test_a_face_lies_in_its_square_as_in_the_training_images(x, y, side, tilt):
    for upright, angle in ((True, 0.0), (False, tilt)):
        crop = face_crop(upright_face(x, y, side, tilt), upright=upright)
        np.testing.assert_allclose((crop.side, crop.angle), (FACTOR * side, angle), rtol=1e-3, atol=1e-3)
        place = crop.from_image(np.array([x, y]), 1)  # of the center of the face, in sides of the square
        np.testing.assert_allclose(place, (0, LIFT / FACTOR), atol=2e-3)


def test_a_face_crop_is_taken_whole_and_a_photo_is_not():
    for size, side, whole in (((256, 256), 100, True), ((256, 280), 110, True), ((256, 400), 110, False)):
        face = upright_face((size[1] - 1) / 2, (size[0] - 1) / 2 + LIFT * side, side)
        crop = whole_image(face_crop(face), size)
        assert (crop == Crop(((size[1] - 1) / 2, (size[0] - 1) / 2), min(size))) is whole
    assert whole_image(face_crop(upright_face(100, 100, 40)), (256, 256)).side == FACTOR * 40


@given(squares)
@settings(max_examples=20, deadline=None)
def test_pasting_what_was_read_changes_little_and_nothing_outside(crop):
    image = np.asarray(ASTRONAUT)
    result = Paste(image, [crop], 256)([crop.read(image, 256)])
    v, u = np.mgrid[:512, :512]
    place = abs(crop.from_image(np.stack((u, v), axis=-1), 1)).max(-1)
    changed = abs(result.astype(int) - image)
    assert changed[place > 0.5].max(initial=0) == 0
    assert changed.mean() < 6 and result.dtype == np.uint8


@given(st.floats(60, 300), st.floats(100, 400), st.sampled_from([0.0, 0.4]), st.integers(-60, 60))
@settings(max_examples=10, deadline=None)
def test_a_square_of_another_color_leaves_no_seam(side, x, angle, shift):
    image = draw_image(0, (512, 512)) // 2 + 60
    crop = Crop((x, 250.0), side, angle)
    patch = np.clip(crop.read(image, 128).astype(int) + shift, 0, 255).astype(np.uint8)
    change = abs(Paste(image, [crop], 128)([patch]).astype(int) - image)
    assert change.max() <= 4  # where the repeated edge has a corner
    assert change.mean() <= 1


def test_a_moved_face_does_not_change_the_color_of_the_rest():
    image, crop = np.full((200, 200, 3), 90, np.uint8), Crop((99.5, 99.5), 100)
    patch = np.full((64, 64, 3), 90, np.uint8)
    patch[:, :20] = 250  # hair that moved over the border
    assert (Paste(image, [crop], 64)([patch])[90:110, 100:140] == 90).all()


def test_a_square_at_the_border_of_the_image_does_not_fade_there():
    image, crop = np.zeros((100, 200, 3), np.uint8), Crop((30.0, 49.5), 100)
    mask = np.asarray(Paste(image, [crop], 64)._spots[0].mask)
    assert mask[50, 0] == mask[0, 20] == mask[-1, 20] == mask[50, -1 - int(100 * FEATHER) - 1] == 255
    assert mask[50, -1] < 10


def test_two_faces_side_by_side_meet_between_them():
    image = np.zeros((300, 400, 3), np.uint8)
    crops = [Crop((140.0, 150.0), 200), Crop((250.0, 150.0), 200)]
    masks = []
    for spot in Paste(image, crops, 64)._spots:
        mask = np.zeros(image.shape[:2])
        mask[spot.rows, spot.columns] = np.asarray(spot.mask) / 255
        masks.append(mask)
    assert masks[0][150, 140] == masks[1][150, 250] == 1
    assert masks[0][150, 250] == masks[1][150, 140] == 0
    assert masks[0][150, 195] == pytest.approx(0.5, abs=0.02) == masks[1][150, 195]


def test_the_square_of_the_astronaut_holds_her_head():
    crop = face_crop(BlazeFaceDetector()([ASTRONAUT])[0][0])
    assert np.linalg.norm(np.subtract(crop.center, (224, 117))) < 12
    assert 190 < crop.side < 250


def test_colors_that_differ_in_two_ways_have_a_mean():
    """Nothing is near the median of two distant halves, which lies between them."""
    halves = np.repeat(np.array([[0], [100]], np.int16), 3, axis=1).repeat(160, axis=0)
    np.testing.assert_array_equal(_robust_mean(halves), [0, 0, 0])
