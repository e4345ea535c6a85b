"""Head pose from landmarks, without any library; scipy as oracle of rotations."""

import fit_face_shape
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from depthaware.extractors import rotation_from_landmarks
from depthaware.extractors.head_pose import FACE, STABLE

few = settings(max_examples=30, deadline=None, derandomize=True)
angles = st.tuples(*(st.floats(-limit, limit) for limit in (60, 40, 60)))  # yaw, pitch, roll


def turned_face(
    yaw: float, pitch: float, roll: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)
) -> Tensor:
    """Landmarks (1, 68, 2) of the generic face in that pose, turned by scipy. Points that are not used lie anywhere."""
    turn = Rotation.from_euler("ZYX", [roll, yaw, -pitch], degrees=True)
    points = np.full((1, 68, 2), 1e3)
    points[0, STABLE] = scale * turn.apply(np.array(FACE))[:, :2] + shift
    return torch.from_numpy(points)


@given(angles)
@few
def test_the_rotation_of_the_generic_face_is_recovered(turned):
    assert (rotation_from_landmarks(turned_face(*turned))[0] - torch.tensor(turned)).abs().max() < 1e-3


@given(angles, st.floats(0.1, 10), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
@few
def test_neither_size_nor_place_of_the_face_matters(turned, scale, shift):
    torch.testing.assert_close(
        rotation_from_landmarks(turned_face(*turned, scale, shift)),
        rotation_from_landmarks(turned_face(*turned)),
        atol=1e-4,
        rtol=0,
    )


def test_the_signs_are_those_that_the_protocol_states():
    """The nose points to the left of the image, up, and the eyes' line falls to the right: clockwise."""
    tip, right_eye, left_eye, between = (30, 36, 45, 27)
    facing = turned_face(0, 0, 0)[0]
    assert turned_face(20, 0, 0)[0, tip, 0] < facing[tip, 0]
    assert turned_face(0, 20, 0)[0, tip, 1] - turned_face(0, 20, 0)[0, between, 1] < facing[tip, 1] - facing[between, 1]
    assert turned_face(0, 0, 20)[0, left_eye, 1] > turned_face(0, 0, 20)[0, right_eye, 1]


def test_the_error_of_the_pose_grows_with_the_noise_and_is_small_for_little():
    """On a face of 90 pixels between the eyes' outer corners; half a pixel is what rounding to whole pixels does."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.cat([turned_face(yaw, pitch, 0) for yaw in range(-30, 31, 5) for pitch in range(-20, 21, 5)])
    truth, errors = rotation_from_landmarks(faces), []
    for noise in (0.0, 0.5, 1.0, 2.0):
        shaken = faces + noise * torch.randn(faces.shape, generator=generator, dtype=torch.float64)
        errors.append((rotation_from_landmarks(shaken) - truth).abs().mean().item())
    assert errors == sorted(errors) and errors[1] < 1


@given(st.integers(0, 10_000))
@few
def test_a_mirrored_face_has_the_opposite_yaw_and_roll(seed):
    points = turned_face(25, 10, 15) + 3 * torch.randn(1, 68, 2, generator=torch.Generator().manual_seed(seed))
    mirrored = (points * torch.tensor([-1, 1]))[:, fit_face_shape.MIRROR]
    expected = rotation_from_landmarks(points) * torch.tensor([-1, 1, -1])
    torch.testing.assert_close(rotation_from_landmarks(mirrored), expected)


def test_no_face_has_no_pose_and_does_not_touch_the_others():
    faces = torch.cat((turned_face(10, 0, 0), torch.full((1, 68, 2), torch.nan), turned_face(20, 0, 0)))
    found = rotation_from_landmarks(faces)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()
    assert rotation_from_landmarks(faces[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"expected \(B, 68, 2\), got \(68, 2\)"):
        rotation_from_landmarks(faces[0])


def test_factorization_finds_the_face_that_was_seen():
    """To half a millimeter of 90, as the mean of the poses is not quite the pose between them."""
    face = torch.tensor(FACE)
    turns = [(yaw, pitch, 0) for yaw in range(-40, 41, 10) for pitch in range(-20, 21, 10)]
    views = torch.cat([turned_face(*turn, 1 + i / 10, (i, -i)) for i, turn in enumerate(turns)]).float()
    full = fit_face_shape.generic_face(
        views, 90, (face[fit_face_shape.OUTER_LEFT, 2] - face[fit_face_shape.TIP, 2]).item()
    )
    torch.testing.assert_close(full.float(), face - face.mean(dim=0), atol=0.5, rtol=0)
