"""A live view: the newest image counts, latency is measured, recordings are kept whatever ends it."""

import errno
import re
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import draw_image, make_clip, times
from PIL import Image as Pillow

import depthaware
from depthaware.cli.main import main
from depthaware.faces.detector import BlazeFaceDetector, LiveFaceDetector
from depthaware.inference import Animator, live
from depthaware.inference.live import LiveView, run_live
from depthaware.media import camera as cameras
from depthaware.media import screen
from depthaware.media.camera import Camera, Shot, open_camera
from depthaware.media.image import read_image
from depthaware.media.threads import Newest
from depthaware.media.video import Frame, read_video

MEDIA = Path(depthaware.__file__).parent / "assets"
LAVFI = "testsrc2=size=64x48:rate=25:duration={},realtime"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder with a clip that is shown in half a second."""
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    return tmp_path


@pytest.fixture(scope="module")
def animator(tiny_model) -> Animator:
    return Animator(tiny_model, MEDIA / "portrait.png")


def clip(count: int = 8) -> list[np.ndarray]:
    frames = read_video(MEDIA / "driving.mp4")
    return [frame.image for frame, _ in zip(frames, range(count), strict=False)]


def shots(images, pause: float = 0.0):
    for index, image in enumerate(images):
        time.sleep(pause)
        yield Shot(image, Fraction(index, 25), time.monotonic())


def stand_in(images, pause: float = 0.0) -> Camera:
    return Camera("stand-in", Fraction(25), Fraction(1, 25), shots(images, pause))


def hidden(image: np.ndarray, title: str) -> str:
    return ""


def test_of_what_nobody_took_only_the_newest_is_left():
    with Newest(iter(range(100))) as newest:
        time.sleep(0.1)
        assert [item for item in newest if item is not None] == [99]
    assert newest.dropped == 99


def test_an_error_is_raised_after_the_last_item_and_the_reader_is_closed():
    closed = []

    def items(count):
        try:
            yield from range(count)
            raise ValueError("unplugged")
        finally:
            closed.append(count)

    with Newest(items(1)) as newest:
        taken = iter(newest)
        assert next(taken) == 0
        with pytest.raises(ValueError, match="unplugged"):
            next(item for item in taken if item is not None)
    endless = (time.sleep(0.01) or i for i in iter(int, 1))
    with Newest(endless) as newest:
        next(iter(newest))
    assert closed == [1] and next(endless, "closed") == "closed"


def test_slow_frames_are_dropped_and_never_late(animator):
    delays = []

    def slow(image, title):
        time.sleep(0.1)
        return ""

    report = run_live(LiveView([animator]), stand_in(clip(40), pause=0.02), slow, also=[delays.append])
    assert report.frames + report.dropped == 40 and report.dropped > 20 and report.frames == len(delays)
    assert 0.1 < report.median <= report.p99 < 2  # a queue would make the last of 40 wait for more than 3 seconds
    assert 1 < report.rate < 10


def test_latency_begins_with_the_image_and_ends_when_it_is_shown(animator):
    old = (shot._replace(taken=shot.taken - 10) for shot in shots(clip(4), pause=0.1))
    camera = Camera("stand-in", Fraction(25), Fraction(1, 25), old)
    report = run_live(LiveView([animator]), camera, lambda image, title: time.sleep(0.2) or "")
    assert 10.2 < report.median < 12


def test_mirrored_is_the_mirrored_camera(animator):
    frames = []
    for mirror in (False, True):
        view = LiveView([animator], mirror=mirror)
        frames.append([view(image[:, ::-1] if mirror else image, i / 25) for i, image in enumerate(clip())])
    assert np.array_equal(*frames)
    assert any((frame != frames[0][0]).any() for frame in frames[0]), "the key points moved nothing"


def test_keys(animator, tiny_model):
    photo = np.asarray(Pillow.fromarray(read_image(MEDIA / "portrait.png")).resize((200, 200)))
    wide = np.pad(photo, ((0, 0), (0, 200), (0, 0)), mode="edge")
    view = LiveView([Animator(tiny_model, wide), animator])
    images = clip()
    whole = [view(image, i / 25) for i, image in enumerate(images)][-1]
    assert whole.shape == (200, 400, 3) and view.animator.found
    view.press("p")
    square = view(images[-1], 1.0)
    assert square.shape == (200, 400, 3) and not square[:, :100].any() and square[:, 100:300].any()
    view.press("P")
    assert np.array_equal(view(images[-1], 1.1), view(images[-1], 1.2))
    view.press("r")
    assert not view.animator.found and view.animator.reference is None
    view.press("sx")
    assert view.animator is animator and view(images[0], 2.0).shape == (200, 400, 3)
    view.press("sm")
    assert view.animator is not animator and view.mirror


def test_small_faces_are_found_where_there_are_no_large_ones():
    portrait, detect = Pillow.fromarray(read_image(MEDIA / "portrait.png")), LiveFaceDetector()
    for side in (480, 170):
        image = np.full((480, 640, 3), 128, np.uint8)
        image[:side, :side] = np.asarray(portrait.resize((side, side)))
        (found,), (all_found,) = detect([image]), BlazeFaceDetector()([image])
        assert len(found) == 1 and np.abs(found[0].box - all_found[0].box).max() < 0.1 * side
    assert detect([np.zeros((480, 640, 3), np.uint8)]) == [[]]


def test_a_video_is_played_in_real_time(here):
    start = time.monotonic()
    seen = list(open_camera("clip.mp4").shots)
    assert [shot.time for shot in seen] == [Fraction(i, 25) for i in range(12)]
    assert all(shot.taken - seen[0].taken == pytest.approx(float(shot.time)) for shot in seen)
    assert time.monotonic() - start >= 11 / 25


LIVE = "live --display none --camera clip.mp4 --weights"


def test_without_a_window_latency_is_printed_and_the_recording_written(here, tiny_weights, capsys):
    assert main([*LIVE.split(), tiny_weights, "--record", "out.mp4"]) == 0
    out, err = capsys.readouterr()
    shown, recorded = out.splitlines()
    found = re.fullmatch(r"(\d+) frames shown at [\d.]+ fps, (\d+) dropped, latency median \d+ ms, p99 \d+ ms", shown)
    assert found and int(found[1]) + int(found[2]) == 12 and recorded == f"out.mp4: {found[1]} frames"
    assert "clip.mp4 at 25 fps; Ctrl-C to stop" in err and "no face was found" in err
    recorded_times = times(Path("out.mp4"))
    assert len(recorded_times) == int(found[1]) and set(recorded_times) <= {Fraction(i, 25) for i in range(12)}


def lavfi(monkeypatch, source: str) -> None:
    """Let FFmpeg's test source take the place of every camera."""
    for module in ("depthaware.cli.live", "depthaware.media.camera"):
        monkeypatch.setattr(f"{module}.input_device", lambda name: ("lavfi", source))
    real = av.open

    def open_without_options(*args, options=None, **more):
        return real(*args, **more)

    monkeypatch.setattr(av, "open", open_without_options)


def test_a_camera_unplugged_midway_is_one_line_and_the_recording_is_kept(here, tiny_weights, capsys, monkeypatch):
    lavfi(monkeypatch, LAVFI.format(1.5))
    assert main(["live", "--display", "none", "--record", "out.mp4", "--weights", tiny_weights, "--quiet"]) == 2
    out, err = capsys.readouterr()
    line = re.fullmatch(
        r"depthaware: error: camera 0: stopped after \d.\d s \(no more images\); .*; (.*) frames\n", err
    )
    assert out == "" and line and line[1] == f"out.mp4: {read_video('out.mp4').frames}"


def test_times_of_a_camera_rise_from_its_arrivals(monkeypatch):
    lavfi(monkeypatch, LAVFI.format(0.4))
    camera, seen = open_camera("0"), []
    with pytest.raises(ValueError, match=r"camera 0: stopped after .* \(no more images\)"):
        for shot in camera.shots:
            seen.append(shot)
    assert camera.rate == 25 and len(seen) == 10
    assert all(a.time < b.time and a.taken <= b.taken for a, b in pairwise(seen))
    assert float(seen[-1].time - seen[0].time) == pytest.approx(seen[-1].taken - seen[0].taken, abs=0.02)


def test_a_camera_that_breaks_off_says_why(monkeypatch):
    lavfi(monkeypatch, LAVFI.format(0.4))
    camera = open_camera("0")

    def unplugged(container):
        yield next(iter(container.demux(video=0)))
        av.error.err_check(-errno.ENODEV)

    monkeypatch.setattr(cameras, "_packets", unplugged)
    with pytest.raises(ValueError, match=r"^camera 0: stopped after 0.0 s \(No such device\)$"):
        list(camera.shots)


def test_a_camera_that_falls_silent_is_given_up(animator, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.2)

    def silent():
        yield from shots(clip(2))
        time.sleep(3)

    start = time.monotonic()
    report = run_live(LiveView([animator]), Camera("0", Fraction(25), Fraction(1, 25), silent()), hidden)
    assert report.trouble == "camera 0: stopped, it sent no image for 0 s" and report.frames
    assert time.monotonic() - start < 2.5


@pytest.mark.parametrize(
    "number, line", [(errno.EBUSY, "is in use by another program"), (errno.EIO, "cannot be opened")]
)
def test_a_busy_camera_is_one_line_and_nothing_is_left(here, tiny_weights, capsys, monkeypatch, number, line):
    lavfi(monkeypatch, "")
    monkeypatch.setattr(av, "open", lambda *args, **options: av.error.err_check(-number))
    assert main([*["live", "--record", "out.mp4", "--quiet", "--weights"], tiny_weights]) == 2
    assert capsys.readouterr().err.startswith(f"depthaware: error: camera 0: {line} (")
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")
def test_missing_cameras_and_other_devices(here, capsys):
    assert main(["live", "--camera", "97"]) == main(["live", "--camera", "/dev/video97"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert re.search("error: camera .*: expected a camera or a video file, there is no /dev/video97, found", line)
    assert main(["live", "--camera", "/dev/null", "--quiet"]) == 2
    assert "camera /dev/null: is a device, but no camera (Inappropriate ioctl" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [KeyboardInterrupt(2), "q"])
def test_the_recording_is_kept_after_ctrl_c_and_q(here, tiny_weights, capsys, monkeypatch, ending):
    calls = []

    @contextmanager
    def window(size):
        def show(image, title):
            calls.append(title)
            if len(calls) == 3 and isinstance(ending, KeyboardInterrupt):
                raise ending
            return ending if len(calls) == 3 else ""

        yield show

    monkeypatch.setattr(screen, "open_window", window)
    assert main(["live", "--camera", "clip.mp4", "--record", "out.mp4", "--weights", tiny_weights]) == 0
    assert read_video("out.mp4").frames == (3 if ending == "q" else 2)
    assert re.fullmatch(r"depthaware: no face: \d+ fps, \d+ ms", calls[-1])


@pytest.mark.parametrize(
    "option", ["--camera-size big", "--camera-size 0x480", "--camera-fps 0", "--max-size 0", "--seconds nan"]
)
def test_wrong_options_are_one_line(here, capsys, option):
    assert main(["live", "--camera", "clip.mp4", *option.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_window_shows_and_hears(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    image = draw_image()
    with screen.open_window((48, 64)) as show:
        show(image, "title")
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert np.array_equal(shown, image) and pygame.display.get_caption()[0] == "title"
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, unicode="m", key=pygame.K_m))
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        assert show(image, "") == "mq" and show(image, "") == ""
    assert not pygame.display.get_init()


def test_no_screen_and_no_package_are_one_line(here, tiny_weights, capsys, monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    line = ["live", "--camera", "clip.mp4", "--record", "out.mp4", "--weights", tiny_weights, "--quiet"]
    assert main(line) == 2
    assert capsys.readouterr().err.endswith(", expected --display none\n")
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    assert main(line) == main([*line, "--display", "none", "--virtual-camera"]) == 2
    window, virtual = capsys.readouterr().err.splitlines()
    assert window == 'depthaware: error: pygame is not installed: pip install "depthaware[live]"'
    assert virtual == "depthaware: error: pyvirtualcam is not installed: pip install pyvirtualcam"
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]


def test_a_virtual_camera_gets_every_frame(monkeypatch):
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    sent = []

    class Backend:
        def __init__(self, **options):
            self.options = options

        def close(self):
            sent.append("closed")

        def send(self, frame):
            sent.append(frame.copy())

        def device(self):
            return "fake"

        def native_fourcc(self):
            return None

    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"fake": Backend})
    with screen.open_virtual_camera((48, 64), 25) as send:
        send(Frame(draw_image(), Fraction(0)))
    frame, closed = sent
    assert np.array_equal(frame.reshape(48, 64, 3), draw_image()) and closed == "closed"
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    with (
        pytest.raises(ValueError, match=r"^--virtual-camera: expected v4l2loopback or OBS, found none"),
        screen.open_virtual_camera((48, 64), 25),
    ):
        pass
