"""Source and driving frames in, frames out."""

import subprocess
import sys
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip, packets, times
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_memory import TARGET, peak_megabytes

from depthaware.inference import AnimateOptions, Animator, animate, animate_to_file
from depthaware.inference.depth_maps import depth_to_file, estimate_disparity, gray_painter, point_cloud
from depthaware.inference.motion import pose_distance
from depthaware.keypoints import Keypoints, transfer_motion
from depthaware.media.image import fit_square, read_image, to_uint8, write_image
from depthaware.media.video import Frame, Video, read_video

SOURCE = draw_image(3, (64, 64))
APART = 10
"""Gray levels by which results must differ where the motion does, that equality may mean anything."""


@pytest.fixture(scope="module")
def noise() -> list[np.ndarray]:
    """Driving frames that look so different that their key points move."""
    return [block.repeat(8, 0).repeat(8, 1) for block in np.random.default_rng(0).integers(0, 255, (11, 8, 8, 3), "u1")]


@pytest.fixture
def clip(tmp_path, noise) -> Video:
    return read_video(make_clip(tmp_path / "clip.mp4", frames=11, size=(64, 64), images=noise, audio="aac"))


def images(frames) -> np.ndarray:
    return np.stack([frame.image for frame in frames]).astype(int)


def moving(frames) -> np.ndarray:
    """The images of frames that differ from one another."""
    found = images(frames)
    assert found.std(0).max() > APART
    return found


def apart(a: np.ndarray, b: np.ndarray) -> bool:
    return abs(a - b).max() > APART


def still(model) -> np.ndarray:
    """The source under its own key points."""
    with torch.inference_mode():
        source = model.encode_source(fit_square(SOURCE, 64))
        return to_uint8(model.drive(source, source.keypoints))[0].astype(int)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
@pytest.mark.parametrize("options", [{}, {"mode": "absolute"}, {"initial_frame": 7}, {"initial_frame": "best"}])
def test_streaming_is_batch(tiny_model, noise, batch_size, options):
    together = moving(animate(tiny_model, SOURCE, noise, batch_size=len(noise), **options))
    streamed = images(animate(tiny_model, SOURCE, noise, batch_size=batch_size, **options))
    assert together.shape == (11, 64, 64, 3)
    assert abs(together - streamed).max() <= 1


def test_frames_come_while_the_driver_is_read(tiny_model, noise):
    read = []
    driver = (read.append(i) or image for i, image in enumerate(noise))
    first = list(islice(animate(tiny_model, SOURCE, driver, batch_size=2), 2))
    assert (len(first), len(read)) == (2, 2)


def test_a_driver_that_rests_gives_the_source_as_the_model_draws_it(tiny_model, noise):
    result = images(animate(tiny_model, SOURCE, [noise[0]] * 3))
    assert abs(result - still(tiny_model)).max() <= 1


@pytest.mark.parametrize("initial", [0, 1, 7, 10])
def test_the_initial_frame_itself_gives_the_source(tiny_model, noise, initial):
    result = moving(animate(tiny_model, SOURCE, noise, initial_frame=initial))
    assert len(result) == len(noise)
    assert abs(result[initial] - still(tiny_model)).max() <= 1
    assert all(apart(result[other], result[initial]) for other in {0, 1, 7, 10} - {initial})


def test_every_motion_option_moves_the_result(tiny_model, noise):
    plain = moving(animate(tiny_model, SOURCE, noise))
    for options in ({"mode": "absolute"}, {"initial_frame": 7}, {"adaptive_scale": False}):
        assert apart(images(animate(tiny_model, SOURCE, noise, **options)), plain), options


def test_absolute_motion_is_the_models_forward(tiny_model, noise):
    with torch.inference_mode():
        driving = torch.cat([fit_square(image, 64) for image in noise[:3]])
        expected = tiny_model(fit_square(SOURCE, 64).expand(3, -1, -1, -1), driving).prediction
    result = moving(animate(tiny_model, SOURCE, noise[:3], mode="absolute"))
    assert abs(result - to_uint8(expected)).max() <= 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_relative_motion_is_transfer_motion_from_the_first_frame(tiny_model, noise, adaptive):
    with torch.inference_mode():
        source = tiny_model.encode_source(fit_square(SOURCE, 64))
        kp_driving = tiny_model.detect_keypoints(torch.cat([fit_square(image, 64) for image in noise]))
        first = Keypoints(kp_driving.value[:1], kp_driving.jacobian[:1])
        moved = transfer_motion(source.keypoints, kp_driving, first, adaptive_scale=adaptive)
        expected = to_uint8(tiny_model.drive(source, moved))
    result = moving(animate(tiny_model, SOURCE, noise, adaptive_scale=adaptive))
    assert abs(result - expected).max() <= 1


def test_best_finds_the_source_among_the_driving_frames(tiny_model, noise):
    driver = [*noise[:5], SOURCE, *noise[5:]]
    best = moving(animate(tiny_model, SOURCE, driver, initial_frame="best"))
    assert abs(best - images(animate(tiny_model, SOURCE, driver, initial_frame=5))).max() <= 1
    assert apart(best, images(animate(tiny_model, SOURCE, driver)))


@given(st.floats(0.1, 3), st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_the_distance_of_poses_ignores_place_and_size(scale, x, y, index):
    value = torch.randn(7, 5, 2, generator=torch.Generator().manual_seed(index))
    driving = Keypoints(value * scale + torch.tensor([x, y]), None)
    distance = pose_distance(Keypoints(value[index : index + 1]), driving)
    assert distance.argmin() == index
    assert distance[index] < 1e-3


def test_images_of_any_kind_drive(tiny_model, noise):
    tensors = [fit_square(image, 64) for image in noise]
    video = [Frame(image, Fraction(i, 25)) for i, image in enumerate(noise)]
    expected = list(animate(tiny_model, SOURCE, noise))
    moving(expected)
    for driver in (tensors, [tensor[0] for tensor in tensors], video):
        result = list(animate(tiny_model, fit_square(SOURCE, 64), driver))
        np.testing.assert_array_equal(images(result), images(expected))
        assert [frame.time for frame in result] == [frame.time for frame in expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_stays_near(tiny_model, noise, dtype):
    exact = moving(animate(tiny_model, SOURCE, noise))
    rounded = images(animate(tiny_model, SOURCE, noise, dtype=dtype))
    assert 0 < abs(rounded - exact).mean() < 3


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_sources_and_drivers_of_any_shape(tiny_model, fit):
    result = list(animate(tiny_model, draw_image(size=(31, 90)), [draw_image(i, (90, 31)) for i in range(2)], fit=fit))
    assert images(result).shape == (2, 64, 64, 3)


def test_an_animator_steps_like_animate(tiny_model, noise):
    animator = Animator(tiny_model, SOURCE)
    assert animator.reference is None
    frames = torch.cat([animator.fit(image) for image in noise])
    steps = np.concatenate([to_uint8(animator.step(batch)) for batch in frames.split(4)])
    np.testing.assert_array_equal(steps, moving(animate(tiny_model, SOURCE, noise, batch_size=4)))
    np.testing.assert_array_equal(animator.reference.value, tiny_model.detect_keypoints(frames[:4]).value[:1].detach())


@pytest.mark.parametrize("options", [{}, {"adaptive_scale": False}])
def test_an_animators_reference_can_be_set_at_any_time(tiny_model, noise, options):
    animator = Animator(tiny_model, SOURCE, AnimateOptions(**options))
    frames = torch.cat([animator.fit(image) for image in noise])
    first = to_uint8(animator.step(frames))
    animator.reference = tiny_model.detect_keypoints(frames[7:8])
    later = to_uint8(animator.step(frames))
    assert apart(first.astype(int), later.astype(int))
    expected = images(animate(tiny_model, SOURCE, noise, initial_frame=7, **options))
    assert abs(later - expected).max() <= 1
    animator.reference = None  # begins anew
    np.testing.assert_array_equal(to_uint8(animator.step(frames)), first)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "sideways"}, "mode: expected 'relative' or 'absolute', got 'sideways'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"fit": "squeeze"}, "fit: expected 'face', 'crop', 'pad' or 'stretch', got 'squeeze'"),
        ({"initial_frame": 11}, "initial_frame: expected 'auto', 'best' or one of the driving frames, 0 to 10, got 11"),
        ({"initial_frame": -1}, "initial_frame: .* got -1"),
    ],
)
def test_wrong_options_are_named_at_once(tiny_model, noise, options, message):
    with pytest.raises(ValueError, match=message):
        animate(tiny_model, SOURCE, noise, **options)


def test_looking_ahead_needs_a_driver_that_can_be_read_twice(tiny_model, noise):
    with pytest.raises(ValueError, match="reads the driving video twice"):
        animate(tiny_model, SOURCE, iter(noise), initial_frame="best")


def test_to_file_keeps_frames_rate_and_sound(tiny_model, clip, tmp_path):
    seen = []
    written = animate_to_file(
        tiny_model, SOURCE, clip, tmp_path / "a.mp4", progress=lambda done, total: seen.append((done, total))
    )
    assert written == (tmp_path / "a.mp4", 11, (64, 64), 25)
    assert times(tmp_path / "a.mp4") == times(clip.path)
    assert packets(tmp_path / "a.mp4", "audio") == packets(clip.path, "audio")
    assert seen == [(i, 11) for i in range(1, 12)]
    made, shown = moving(animate(tiny_model, SOURCE, clip)), images(read_video(tmp_path / "a.mp4"))
    assert abs(shown - made).mean() < abs(shown - made[::-1]).mean() / 1.5


def test_variable_frame_times_reach_the_result(tiny_model, noise, tmp_path):
    pts = [0, 3, 4, 10, 11, 20, 40, 41, 42, 90, 91]
    path = make_clip(tmp_path / "vfr.mp4", 11, (64, 64), pts=pts, time_base=Fraction(1, 90), images=noise)
    animate_to_file(tiny_model, SOURCE, read_video(path), tmp_path / "a.mp4")
    assert times(tmp_path / "a.mp4") == [Fraction(p, 90) for p in pts]


def test_compare_shows_source_driver_and_result(tiny_model, clip, tmp_path):
    written = animate_to_file(tiny_model, SOURCE, clip, tmp_path / "a.mp4", compare=True, audio=False)
    assert written.size == (64, 192)
    shown = images(read_video(tmp_path / "a.mp4"))
    assert abs(shown[:, :, :64] - SOURCE).mean() < 8
    assert abs(shown[:, :, 64:128] - images(clip)).mean() < 8
    assert abs(shown[:, :, 128:] - images(animate(tiny_model, SOURCE, clip))).mean() < 8
    assert read_video(tmp_path / "a.mp4").audio is None


def test_save_depth_shows_the_disparity_of_the_result(tiny_model, clip, tmp_path):
    animate_to_file(tiny_model, SOURCE, clip, tmp_path / "a.mp4", save_depth=tmp_path / "d.mp4")
    paint = gray_painter(tiny_model, SOURCE)
    expected = np.concatenate([to_uint8(paint(frame.image)) for frame in animate(tiny_model, SOURCE, clip)])
    shown = images(read_video(tmp_path / "d.mp4"))
    assert times(tmp_path / "d.mp4") == times(clip.path)
    assert abs(shown - expected).mean() < 10


@pytest.mark.parametrize("size", [(64, 64), (50, 97), (200, 31), (1, 300)])
def test_disparity_of_images_of_any_shape(tiny_model, size):
    disparity = estimate_disparity(tiny_model, draw_image(size=size))
    assert disparity.shape == (1, 1, *size)
    assert disparity.min() > 0
    assert disparity.max() < 1


def test_depth_image_uses_the_whole_range(tiny_model, tmp_path):
    written = depth_to_file(tiny_model, draw_image(), tmp_path / "d.png")
    assert (written.size, written.frames, written.rate) == ((48, 64), 1, 0)
    gray = read_image(tmp_path / "d.png")
    assert (gray.min(), gray.max()) == (0, 255)


def test_point_cloud_lies_on_the_rays_of_its_camera(tiny_model, tmp_path):
    points = point_cloud(tiny_model, draw_image())
    assert points.shape == (48 * 64, 3)
    assert points[:, 2].max() < 0  # in front of a viewer who looks along -z
    x = points[:, 0] / -points[:, 2] * 1.6 * 64 + 31.5
    np.testing.assert_allclose(x.reshape(48, 64), np.arange(64)[None].repeat(48, 0), atol=1e-3)
    assert points[0, 1] > 0 > points[-1, 1]
    depth_to_file(tiny_model, draw_image(), tmp_path / "d.ply")
    assert b"element vertex 3072\n" in (tmp_path / "d.ply").read_bytes()


def test_depth_of_a_video_keeps_its_frames(tiny_model, clip, tmp_path):
    written = depth_to_file(tiny_model, clip, tmp_path / "d.mp4")
    assert written == (tmp_path / "d.mp4", 11, (64, 64), 25)
    assert times(tmp_path / "d.mp4") == times(clip.path)


def test_a_folder_of_frames_drives(tiny_model, noise, tmp_path):
    for i, image in enumerate(noise):
        write_image(tmp_path / f"{i}.png", image)
    written = animate_to_file(tiny_model, SOURCE, read_video(tmp_path, rate=10), tmp_path / "a.mp4")
    assert (written.frames, written.rate) == (11, 10)
    assert times(tmp_path / "a.mp4") == [Fraction(i, 10) for i in range(11)]


def test_depthaware_animate_is_the_function_and_not_a_module():
    import depthaware

    assert depthaware.animate is animate
    code = "import depthaware.inference.animation, depthaware.cli.main; assert callable(depthaware.animate)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_memory_does_not_grow_with_length(tiny_weights):
    """The short form of examples/benchmarks/measure_memory.py; 30 s of frames kept by mistake would weigh 150 MB."""
    short, long = (peak_megabytes(seconds, ["--weights", tiny_weights]) for seconds in (3, 30))
    assert long <= TARGET * short


def test_an_animator_takes_an_empty_batch(tiny_model):
    animator = Animator(tiny_model, SOURCE)
    assert animator.step(torch.rand(0, 3, 64, 64)).shape == (0, 3, 64, 64)
    assert animator.reference is None  # that of the first frame, which is still to come


@pytest.mark.parametrize("wrong", [{"initial_frame": "bset"}, {"initial_frame": -1}, {"dtype": "float32"}])
def test_wrong_options_of_an_animator_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
        AnimateOptions(**wrong)
