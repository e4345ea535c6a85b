"""One face followed through a driving video, on real and made-up faces."""

from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, filters

import depthaware
from depthaware.faces.crop import face_crop
from depthaware.faces.detector import BlazeFaceDetector
from depthaware.faces.face import Face
from depthaware.faces.framing import HEAD, LiveCrop, moving_crops, scene_crop
from depthaware.faces.tracking import LiveTracker, track_driving
from depthaware.media.video import read_video

ASSETS = Path(depthaware.__file__).parent / "assets"
CLIP = [frame.image for frame in islice(read_video(ASSETS / "driving.mp4"), 24)]
BLACK = [np.zeros_like(CLIP[0])] * 4


def resized(image, side):
    return np.asarray(PIL.Image.fromarray(image).resize((side, side)))


ASTRONAUT = resized(np.ascontiguousarray(data.astronaut()[:300, 80:380]), 256)


class Remembering:
    """The bundled detector, which sees each different image once."""

    def __init__(self):
        self.detector, self.known = BlazeFaceDetector(), {}

    def __call__(self, images):
        for image in images:
            if image.tobytes() not in self.known:
                self.known[image.tobytes()] = self.detector([image])[0]
        return [self.known[image.tobytes()] for image in images]


DETECT = Remembering()


def moving(image, count=8):
    """A camera that pans by 2 pixels a frame."""
    return [np.roll(image, (index, 2 * index), axis=(0, 1)) for index in range(count)]


def seen(track):
    return [face is not None for face in track.faces]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_reference_is_the_first_good_face_whatever_comes_before(batch_size):
    plain = track_driving(CLIP, DETECT)
    late = track_driving(BLACK + CLIP, DETECT, batch_size=batch_size)
    assert seen(late) == [False] * 4 + [True] * len(CLIP)
    assert late.references == (plain.references[0] + 4,)
    assert late.crops == (plain.crops[0],) * (len(CLIP) + 4)
    assert set(late.scenes) == {0}


def blur(image):
    return np.uint8(255 * filters.gaussian(image / 255, 3, channel_axis=2))


def close_eyes(image):
    """Paint the skin between the eyes and the cheeks over the eyes."""
    closed = image.copy()
    for x, y in DETECT([image])[0][0].points[:2].round().astype(int):
        closed[y - 9 : y + 8, x - 14 : x + 15] = image[y + 18 : y + 19, x - 14 : x + 15]
    return closed


@pytest.mark.parametrize("spoil", [blur, close_eyes, lambda image: image // 4])
def test_blurred_dark_and_blinking_faces_are_no_reference(spoil):
    good = track_driving(CLIP, DETECT).references[0]
    frames = [spoil(image) if index < good + 3 else image for index, image in enumerate(CLIP)]
    assert track_driving(frames, DETECT).references[0] >= good + 3


def test_a_face_in_a_dark_frame_is_not_seen():
    """Key points in the dark are wrong; detectors find a face at a fifth of its brightness."""
    frames = [image // 5 if index < 4 else image for index, image in enumerate(CLIP)]
    assert all(DETECT(frames))
    assert seen(track_driving(frames, DETECT)) == [False] * 4 + [True] * 20
    all_dark = track_driving([image // 5 for image in CLIP], DETECT)
    assert all(seen(all_dark))


def test_a_cut_begins_a_scene_with_its_own_reference_and_crop():
    frames = CLIP[:9] + moving(ASTRONAUT, 9)
    track = track_driving(frames, DETECT)
    assert track.scenes == (0,) * 9 + (1,) * 9
    assert [track.scenes[index] for index in track.references] == [0, 1]
    assert len(set(track.crops)) == 2
    one = track_driving(frames, DETECT, scenes=False)
    assert set(one.scenes) == {0}
    assert len(one.references) == len(set(one.crops)) == 1


@pytest.mark.parametrize("gap", [BLACK[:1] * 6, [np.full_like(CLIP[0], 255)] * 3])
def test_a_cut_behind_black_frames_is_found_and_black_frames_alone_are_none(gap):
    assert set(track_driving(CLIP[:6] + gap + CLIP[6:12], DETECT).scenes) == {0}
    found = track_driving(CLIP[:6] + gap + moving(ASTRONAUT, 6), DETECT)
    assert found.scenes == (0,) * (6 + len(gap)) + (1,) * 6


def flash(image):
    return np.uint8(np.clip(image.astype(int) * 2 + 90, 0, 255))


def fade(count):
    return [np.uint8(image * (index / count)) for index, image in enumerate(CLIP[:count])]


@pytest.mark.parametrize(
    "frames",
    [
        [flash(image) if index in (7, 8) else image for index, image in enumerate(CLIP)],
        fade(16) + CLIP[16:],
        moving(ASTRONAUT, 12),
        [np.roll(ASTRONAUT, 9 * (-1) ** index, axis=1) for index in range(12)],
        CLIP[:8] + moving(ASTRONAUT, 2) + CLIP[10:],
    ],
    ids=["flash", "fade in", "pan", "shaking", "two frames of something else"],
)
def test_flashes_fades_and_motion_are_no_cuts(frames):
    assert set(track_driving(frames, DETECT).scenes) == {0}


def test_the_person_of_the_reference_is_followed_past_another_one():
    """The astronaut, smaller, walks past behind the followed face, then in front of it."""
    person, other = [resized(image, 180) for image in CLIP], resized(ASTRONAUT, 120)
    for front, rows in ((False, slice(30, 150)), (True, slice(60, 180))):
        frames = []
        for index, image in enumerate(person):
            frame = np.full((200, 500, 3), 100, np.uint8)
            frame[10:190, 160:340] = image
            left = 20 + 15 * index
            there = frame[rows, left : left + 120]
            there[:] = other if front else np.where(there == 100, other, there)
            frames.append(frame)
        track = track_driving(frames, DETECT)
        faces = [face for face in track.faces if face is not None]
        assert len(faces) > 12
        assert all(200 < face.points[2, 0] < 300 and face.box[2] - face.box[0] > 60 for face in faces)


def test_a_given_initial_frame_is_the_reference_of_its_scene():
    frames = CLIP[:6] + moving(ASTRONAUT, 6)
    assert track_driving(frames, DETECT, initial_frame=8).references[1] == 8
    assert track_driving(frames, DETECT, initial_frame=3).references[0] == 3


@pytest.mark.parametrize(
    ("frames", "initial", "message"),
    [
        ([], "auto", "at least one frame, got none"),
        (CLIP[:3], 3, "0 to 2, got 3"),
        (BLACK + CLIP[:3], 1, "found none in frame 1"),
    ],
)
def test_impossible_reference_frames_are_refused(frames, initial, message):
    with pytest.raises(ValueError, match=message):
        track_driving(frames, DETECT, initial_frame=initial)


def test_a_video_without_faces_is_one_scene_without_reference_and_crop():
    track = track_driving(BLACK, DETECT)
    assert track == ((None,) * 4, (0,) * 4, (None,), (None,) * 4)


def test_a_live_view_follows_the_same_faces_as_a_file():
    frames = BLACK + CLIP[:12] + moving(ASTRONAUT, 10)
    live = LiveTracker(DETECT)
    shown = [live(image, index / 25) for index, image in enumerate(frames)]
    track = track_driving(frames, DETECT)
    starts = [index for index, frame in enumerate(shown) if frame.is_reference]
    assert [shown[index].scene for index in starts] == [0, 1]
    assert all(frame.crop is None and frame.face is None for frame in shown[: starts[0]])
    assert all(frame.face is None for frame in shown[16:18])  # a cut is not yet told from a flash
    for frame, face, scene in list(zip(shown, track.faces, track.scenes, strict=True))[18:]:
        assert frame.scene == scene
        assert frame.face is None or np.array_equal(frame.face.box, face.box)


def made_up(center, side, roll=0.0):
    axes = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    points = np.array([[-0.25, -0.3], [0.25, -0.3], [0, 0], [0, 0.25], [-0.5, -0.1], [0.5, -0.1]]) @ axes
    box = np.array([*(np.array(center) - side / 2), *(np.array(center) + side / 2)], np.float32)
    return Face(box, (points * side + np.array(center)).astype(np.float32), 0.9)


FACES = st.builds(made_up, st.tuples(*[st.floats(0, 900)] * 2), st.floats(20, 300), st.floats(-0.3, 0.3))


def covers(crop, face):
    head = face_crop(face, factor=HEAD)
    return all(abs(a - b) <= (crop.side - head.side) / 2 + 1e-2 for a, b in zip(crop.center, head.center, strict=True))


@settings(max_examples=40)
@given(st.lists(st.none() | FACES, min_size=1, max_size=30), st.sampled_from([10.0, 25.0, 60.0]))
def test_no_head_leaves_its_crop(faces, rate):
    whole, followed = scene_crop(faces), moving_crops(faces, rate)
    live = {follow: LiveCrop(follow) for follow in (True, False)}
    for index, face in enumerate(faces):
        crops = [crop(face, index / rate) for crop in live.values()] + [followed[index]]
        if face is not None:
            assert all(covers(crop, face) for crop in crops)
            assert covers(whole, face)
    assert (whole is None) == all(face is None for face in faces)


def test_the_crop_of_a_still_head_is_that_of_its_face_and_a_wild_one_is_left_out():
    still = [made_up((200, 150), 80)] * 400
    for crops in ([scene_crop(still)], moving_crops(still, 25)):
        for crop in crops:
            np.testing.assert_allclose(
                [*crop.center, crop.side], [*face_crop(still[0]).center, face_crop(still[0]).side]
            )
    assert scene_crop([*still, made_up((700, 700), 80)]) == scene_crop(still)


def test_a_crop_that_follows_moves_with_the_head_and_more_smoothly():
    shaken = [made_up((100 + 3 * i + 4 * (-1) ** i, 200), 80) for i in range(60)]
    shaken[30:33] = [None] * 3
    live = LiveCrop(True)
    for crops in (moving_crops(shaken, 25), [live(face, index / 25) for index, face in enumerate(shaken)]):
        x = np.array([crop.center[0] for crop in crops])
        assert abs(x - 100 - 3 * np.arange(60))[5:-5].max() < 50
        assert np.median(abs(np.diff(x, 2))) < 5  # the head: 16


def test_a_camera_held_askew_tilts_the_crop_and_a_nod_does_not():
    nod = [made_up((200, 150), 80, roll) for roll in np.linspace(-0.3, 0.3, 9)]
    askew = [made_up((200, 150), 80, 0.9 + roll) for roll in np.linspace(-0.1, 0.1, 9)]
    assert scene_crop(nod).angle == 0
    assert scene_crop(askew).angle == pytest.approx(0.9, abs=1e-3)
    assert {crop.angle for crop in moving_crops(askew, 25)} == {scene_crop(askew).angle}
