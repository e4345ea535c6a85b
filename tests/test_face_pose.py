"""Head pose by six points, and the quality of faces."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from skimage import data, filters

from depthaware.faces.detector import BlazeFaceDetector
from depthaware.faces.face import Face
from depthaware.faces.pose import HEAD, head_rotation, pose_angle, pose_warning
from depthaware.faces.quality import eye_openness, face_patch, grade, sharpness
from depthaware.faces.tracking import DrivingTrack

DEGREES = st.floats(-60, 60)


def turned(yaw=0.0, pitch=0.0, roll=0.0, size=1.0, center=(0, 0)):
    """A face whose points are those of the generic head, turned by scipy."""
    rotation = Rotation.from_euler("yxz", (yaw, pitch, roll), degrees=True)
    points = rotation.apply(HEAD)[:, :2] * size + center
    return Face(np.zeros(4, np.float32), points.astype(np.float32), 0.9)


@given(DEGREES, DEGREES, DEGREES, st.floats(0.05, 20), st.tuples(DEGREES, DEGREES))
def test_the_rotation_of_a_head_is_found_at_any_size_and_place(yaw, pitch, roll, size, center):
    expected = Rotation.from_euler("yxz", (yaw, pitch, roll), degrees=True).as_matrix()
    np.testing.assert_allclose(head_rotation(turned(yaw, pitch, roll, size, center)), expected, atol=2e-3)


@given(DEGREES, DEGREES)
def test_the_angle_between_two_turns_about_one_axis_is_their_difference(a, b):
    assert pose_angle(turned(a), turned(b)) == pytest.approx(abs(a - b), abs=0.3)


def test_a_far_start_is_named_only_if_another_frame_is_nearer():
    faces = tuple(map(turned, (40, 30, 5)))
    crops = (None,) * 3
    track = DrivingTrack(faces, (0, 0, 0), (0,), crops)
    assert "frame 0: the head is turned by 40 degrees from the source's, another frame by 5; --initial-frame best" in (
        pose_warning(turned(0), track)
    )
    assert pose_warning(turned(25), track) is None  # near enough
    assert pose_warning(turned(60), track) is None  # 20 degrees
    assert pose_warning(turned(90), track) is None  # far, but nothing is nearer
    assert pose_warning(turned(0), track._replace(scenes=(0, 0, 1))) is None  # nearer, but in another scene
    assert pose_warning(turned(0), DrivingTrack((None,), (0,), (None,), (None,))) is None


IMAGE = np.ascontiguousarray(data.astronaut()[:300, 80:380])
FACE = BlazeFaceDetector()([IMAGE])[0][0]


def test_a_patch_is_the_same_whatever_the_tilt():
    x, y = FACE.points.T
    lying = FACE._replace(points=np.stack((y, IMAGE.shape[1] - 1 - x), axis=1))
    upright, turned_back = face_patch(IMAGE, FACE), face_patch(np.rot90(IMAGE), lying)
    assert upright.shape == (96, 96)
    assert abs(upright - turned_back).mean() < 3


def spoiled(kind):
    if kind == "blurred":
        return np.uint8(255 * filters.gaussian(IMAGE / 255, 2, channel_axis=2))
    closed = IMAGE.copy()
    for x, y in FACE.points[:2].round().astype(int):
        closed[y - 12 : y + 9, x - 16 : x + 17] = IMAGE[y + 20 : y + 21, x - 16 : x + 17]
    return closed


def test_sharpness_falls_with_blur_and_openness_with_painted_lids_and_brightness_matters_to_neither():
    patch, blurred, closed = (face_patch(image, FACE) for image in (IMAGE, spoiled("blurred"), spoiled("closed")))
    assert sharpness(blurred) < 0.7 * sharpness(patch)
    assert eye_openness(closed) < 0.7 * eye_openness(patch)
    assert sharpness(patch / 2) == pytest.approx(sharpness(patch), rel=0.02)
    assert eye_openness(patch / 2) == pytest.approx(eye_openness(patch), rel=0.15)


def test_a_grade_is_that_of_the_worst_of_the_three():
    measured = np.ones((5, 3), np.float32)
    measured[0, 0], measured[1, 1], measured[2, 2] = 0.45, 0.5, 0.4
    np.testing.assert_allclose(grade(measured), [0.5, 0.5 / 0.95, 0.5, 1 / 0.95, 1 / 0.95], rtol=1e-5)
    assert math.isfinite(grade(np.zeros((2, 3), np.float32)).max())
