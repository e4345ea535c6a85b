"""Squares around a face: inside the image, around all its places, as large as the margin says."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from depthaware.data.prepare import Box, face_crop

laws = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def images_with_faces(draw):
    """Size of an image, and one to four boxes in it."""
    height, width = draw(st.integers(100, 800)), draw(st.integers(100, 800))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        side = draw(st.floats(5, min(height, width) / 2))
        left, top = draw(st.floats(0, width - side)), draw(st.floats(0, height - side))
        boxes.append(Box(left, top, left + side, top + side))
    return (height, width), boxes


@laws
@given(images_with_faces(), st.floats(1, 3))
def test_a_crop_is_inside_the_image_and_around_the_faces(case, margin):
    (height, width), boxes = case
    crop = face_crop(boxes, (height, width), margin)
    assume(crop is not None)
    assert crop.left >= 0 and crop.top >= 0
    assert crop.left + crop.side <= width and crop.top + crop.side <= height
    for box in boxes:
        assert crop.left - 1 < box.left and box.right < crop.left + crop.side + 1
        assert crop.top - 1 < box.top and box.bottom < crop.top + crop.side + 1


@laws
@given(images_with_faces(), st.floats(1, 3), st.floats(0, 1))
def test_a_larger_margin_never_makes_the_crop_smaller_or_possible(case, margin, more):
    size, boxes = case
    small, large = face_crop(boxes, size, margin), face_crop(boxes, size, margin + more)
    assume(small is not None or large is not None)
    assume(max(size) > 1.1 * min(size))  # else it may be a crop already
    assert small is not None
    if large:
        assert large.side >= small.side
        assert large.left <= small.left + 1 and large.left + large.side >= small.left + small.side - 1
        assert large.top <= small.top + 1 and large.top + large.side >= small.top + small.side - 1


@laws
@given(images_with_faces(), st.floats(1, 3))
def test_the_mirrored_face_gets_the_mirrored_crop(case, margin):
    (height, width), boxes = case
    mirrored = [Box(width - box.right, box.top, width - box.left, box.bottom) for box in boxes]
    crop, other = (face_crop(b, (height, width), margin) for b in (boxes, mirrored))
    assume(crop is not None and other is not None)
    assert (other.top, other.side) == (crop.top, crop.side)
    assert abs(width - other.left - other.side - crop.left) <= 1


def test_what_is_cropped_already_is_taken_whole():
    assert face_crop([Box(70, 80, 180, 190)], (256, 256), 1.8) == (0, 0, 256)
    assert face_crop([Box(70, 80, 180, 190)], (256, 512), 1.8).side < 200
    assert face_crop([Box(100, 100, 150, 150)], (256, 256), 1.8).side == 90


def test_a_crop_has_more_room_above_the_face_than_below():
    crop = face_crop([Box(450, 450, 550, 550)], (1000, 1400), 2.0)
    assert crop.side == 200 and crop.left == 400  # centered
    assert (450 - crop.top, crop.top + crop.side - 550) == (61, 39)


def test_a_face_at_the_edge_has_no_crop():
    assert face_crop([Box(0, 100, 100, 200)], (400, 600), 1.2) is not None
    assert face_crop([Box(0, 100, 100, 200)], (400, 600), 2.2) is None
    assert face_crop([Box(100, 0, 450, 350)], (360, 640), 1.8) is None
