"""The page: its functions, its visitors, and the page itself in a browser (marked `browser`)."""

import json
import os
import re
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from clips import draw_image, make_clip
from conftest import TINY

from depthaware import DaGAN, read_image, read_video
from depthaware.app.sessions import Session, Sessions
from depthaware.app.studio import CLIP, PORTRAIT, RESULT, Controls, Stopped, Studio
from depthaware.app.uploads import Limits, Refusal
from depthaware.cli.main import main
from depthaware.inference import AnimateOptions, Animator
from depthaware.media.image import write_image
from depthaware.media.video import Frame, write_video


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(DaGAN.from_pretrained("dagan-tiny"), Limits(megabytes=3, seconds=10))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """Ten frames, spread over the bundled clip."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with write_video(path, (256, 256), Fraction(25)) as write:
        for index, frame in enumerate(islice(read_video(CLIP), 0, 150, 15)):
            write(Frame(frame.image, Fraction(index, 25)))
    return str(path)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def frames_of(path: str | Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_video(path)]).astype(int)


def mirrored(folder: Path) -> str:
    write_image(folder / "mirrored.png", np.ascontiguousarray(read_image(PORTRAIT)[:, ::-1]))
    return str(folder / "mirrored.png")


def test_a_photo_moves_and_a_new_result_replaces_the_last(studio, clip, tmp_path):
    session, seen = Session(tmp_path / "me"), []
    path = studio.video(session, PORTRAIT, clip, progress=lambda done, total: seen.append((done, total)))
    made = frames_of(path)
    assert made.shape == (10, 256, 256, 3) and seen[-1] == (10, 10)
    assert np.abs(made - made[0]).mean(axis=(1, 2, 3)).max() > 1
    assert frames_of(studio.video(session, PORTRAIT, clip, compare=True)).shape == (10, 256, 768, 3)
    assert files_in(tmp_path) == [RESULT]
    session.close()
    assert not list(tmp_path.iterdir())


def test_the_controls_of_the_motion_act_on_the_video(studio, clip, tmp_path):
    session = Session(tmp_path / "me")
    plain, rest, still, frozen = (
        frames_of(studio.video(session, PORTRAIT, clip, controls=controls))
        for controls in (None, Controls(strength=0), Controls(head=0), Controls(freeze_background=True))
    )
    moved = [np.abs(made - made[0]).mean() for made in (plain, still, rest)]
    assert moved[0] > 2 * moved[1] > 2 * moved[2] and np.abs(frozen - plain).mean() > 0.01
    rigid = Studio(DaGAN(**TINY | {"num_keypoints": 3}).eval())
    with pytest.raises(Refusal, match="Please set both sliders to the same value"):
        rigid.video(session, PORTRAIT, clip, controls=Controls(head=0))


def bad_inputs(folder: Path, clip: str) -> dict[str, tuple[str | None, str | None]]:
    (folder / "page.png").write_text("<html><body>404</body></html>")
    (folder / "page.mp4").write_text("<html><body>404</body></html>")
    (folder / "cut.mp4").write_bytes(Path(clip).read_bytes()[:200])
    (folder / "huge.mp4").write_bytes(bytes(4_000_000))
    write_image(folder / "field.png", draw_image())
    make_clip(folder / "field.mp4")
    make_clip(folder / "long.mp4", pts=list(range(12)), time_base=Fraction(1))
    path = lambda name: str(folder / name)  # noqa: E731
    return {
        "Please choose a photo first.": (None, clip),
        "Please choose a video first.": (PORTRAIT, None),
        "This photo cannot be used: it is a web page. Please choose another, such as a JPEG or PNG.": (
            path("page.png"),
            clip,
        ),
        "This video cannot be used: it is a web page. Please choose another, such as an MP4.": (
            PORTRAIT,
            path("page.mp4"),
        ),
        "This video cannot be used: it has no video that can be decoded": (PORTRAIT, path("cut.mp4")),
        "This video is too large: 4 MB, at most 3 are taken.": (PORTRAIT, path("huge.mp4")),
        "This video is too long: 12 seconds, at most 10 are taken.": (PORTRAIT, path("long.mp4")),
        "No face was found in this photo.": (path("field.png"), clip),
        "No face was found in this video.": (PORTRAIT, path("field.mp4")),
        "This photo is no longer here. Please choose it again.": (path("gone.png"), clip),
    }


def test_a_refusal_is_a_plain_sentence_and_leaves_nothing(studio, clip, tmp_path):
    session = Session(tmp_path / "me")
    (tmp_path / "in").mkdir()
    for sentence, (photo, driving) in bad_inputs(tmp_path / "in", clip).items():
        with pytest.raises(Refusal, match=f"^{re.escape(sentence)}") as refusal:
            studio.video(session, photo, driving)
        assert str(tmp_path) not in str(refusal.value)
    small = Studio(studio.model, Limits(photo_pixels=1000))
    with pytest.raises(Refusal, match="too large: 256 × 256 pixels"):
        small.depth(session, PORTRAIT)
    assert not session.folder.exists()


def test_who_stops_or_leaves_gets_no_file(studio, clip, tmp_path):
    sessions = Sessions(tmp_path)
    for leave in (lambda: sessions("a").stopped.set(), lambda: sessions.forget("a")):
        with pytest.raises(Stopped):
            studio.video(sessions("a"), PORTRAIT, clip, progress=lambda done, total, leave=leave: leave())
        assert files_in(tmp_path) == []


def test_the_least_recently_used_session_goes_first(tmp_path):
    sessions = Sessions(tmp_path, most=2)
    first, second = sessions("a"), sessions("b")
    (second.new_folder("video") / "x").touch()
    assert sessions("a") is first and sessions("c") is not second
    assert len(sessions) == 2 and second.stopped.is_set() and files_in(tmp_path) == []
    assert sessions("b") is not second


def test_live_views_at_once_are_those_of_each_alone(studio, clip, tmp_path):
    frames = [frame.image for frame in read_video(clip)][:5]
    photos = [PORTRAIT, mirrored(tmp_path)]

    def alone(photo: str) -> list[np.ndarray]:
        animator = Animator(studio.fast, read_image(photo), AnimateOptions(max_size=640))
        return [animator(frame) for frame in frames]

    expected = [alone(photo) for photo in photos]
    assert np.abs(expected[0][-1].astype(int) - expected[1][-1]).mean() > 10
    sessions = Sessions(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for index in range(len(frames)):
            calls = [pool.submit(studio.live, sessions(str(i)), photos[i % 2], frames[index]) for i in range(4)]
            for i, call in enumerate(calls):
                assert np.array_equal(call.result(), expected[i % 2][index])
    studio.restart(sessions("0"))
    at_rest = studio.live(sessions("0"), PORTRAIT, frames[-1])
    assert not np.array_equal(at_rest, expected[0][-1])  # the motion starts anew here


def test_depth_and_attention_of_a_photo(studio, tmp_path):
    session = Session(tmp_path / "me")
    depth = studio.depth(session, PORTRAIT)
    assert depth.gray.shape == depth.photo.shape == (256, 256, 3) and np.ptp(depth.gray) == 255
    content = depth.cloud.read_bytes()
    scene = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    assert content[:4] == b"glTF" and 30_000 < scene["accessors"][0]["count"] <= 256 * 256
    heat, gate = studio.attention(PORTRAIT, 120, 80)
    other, _ = studio.attention(PORTRAIT, 120, 200)
    assert heat.shape == (512, 512, 3) and gate > 0 and not np.array_equal(heat, other)
    wide = np.full((256, 800, 3), 200, np.uint8)
    wide[:, :256] = read_image(PORTRAIT)
    write_image(tmp_path / "wide.png", wide)
    with pytest.raises(Refusal, match="click on the face"):
        studio.attention(str(tmp_path / "wide.png"), 780, 100)


@pytest.mark.parametrize("option", ["--port 0", "--max-seconds nan", "--max-megabytes 0", "--weights absent"])
def test_wrong_options_of_the_command_are_one_line(option, capsys):
    assert main(["app", *option.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# The page in a browser.


@pytest.fixture(scope="module")
def address(studio):
    pytest.importorskip("gradio")
    from depthaware.app.server import serve

    with serve(studio) as url:
        yield url


def camera(path: Path) -> Path:
    """The bundled clip as the video of a fake camera."""
    with open(path, "wb") as file:
        file.write(b"YUV4MPEG2 W256 H256 F25:1 Ip A1:1 C420jpeg\n")
        for frame in islice(read_video(CLIP), 0, 150, 3):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(format="yuvj420p")
            file.write(b"FRAME\n" + picture.to_ndarray().tobytes())
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium")
    fake = camera(tmp_path_factory.mktemp("camera") / "camera.y4m")
    flags = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(
            executable_path=chromium, args=[*flags, f"--use-file-for-fake-video-capture={fake}"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=[390, 1440])
def page(request, browser, address):
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(address)
    page.get_by_role("button", name="Animate").wait_for()
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def wait_until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@pytest.mark.browser
def test_the_page_makes_a_video_that_moves_and_refuses_in_words(page, clip, tmp_path):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.get_by_text("only with that person's consent").is_visible()
    photo, driving = (page.locator("input[type=file]").nth(index) for index in (0, 1))
    (tmp_path / "page.png").write_text("<html></html>")
    photo.set_input_files(tmp_path / "page.png")
    page.locator(".thumbnail, img[src*='page']").first.wait_for(state="attached")
    page.get_by_role("button", name="Animate").click()
    page.get_by_text("This photo cannot be used: it is a web page.").wait_for()
    page.reload()
    page.get_by_role("button", name="Animate").wait_for()
    photo.set_input_files(PORTRAIT)
    driving.set_input_files(clip)
    page.locator("video[src*='clip']").first.wait_for(state="attached")
    page.locator("img[src*='portrait']").first.wait_for(state="attached")
    page.get_by_role("button", name="Animate").click()
    result = page.locator(f"video[src*='{RESULT}']")
    result.wait_for(state="attached")
    look = """video => new Promise(done => { video.pause(); video.onseeked = () => {
        const canvas = document.createElement("canvas"); canvas.width = canvas.height = 64;
        const ink = canvas.getContext("2d"); ink.drawImage(video, 0, 0, 64, 64);
        done([...ink.getImageData(0, 0, 64, 64).data]) }; video.currentTime = TIME })"""
    first, later = (np.array(result.evaluate(look.replace("TIME", time))) for time in ("0.01", "0.3"))
    assert np.abs(first - later).mean() > 0.5


@pytest.mark.browser
def test_the_live_view_moves_and_writes_no_files(page):
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    live = page.locator("img[src^='data:image/jpeg']")
    live.wait_for(state="attached")
    seen = set()
    wait_until(lambda: len(seen.add(live.get_attribute("src")) or seen) > 1)
    before = files_in(Path(os.environ["GRADIO_TEMP_DIR"]))
    wait_until(lambda: len(seen.add(live.get_attribute("src")) or seen) > 5)
    assert files_in(Path(os.environ["GRADIO_TEMP_DIR"])) == before


@pytest.mark.browser
@pytest.mark.parametrize(
    "name, sentence", [("NotAllowedError", "keeps the camera from this page"), ("NotFoundError", "No camera was found")]
)
def test_a_camera_that_is_refused_or_missing_is_told_in_words(browser, address, name, sentence):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    fail = f'async () => {{ throw new DOMException("", "{name}") }}'
    page.add_init_script(f"MediaDevices.prototype.getUserMedia = {fail}")
    page.goto(address)
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.locator("#camera-trouble").get_by_text(sentence).wait_for(timeout=30_000)
    page.close()


@pytest.mark.browser
def test_depth_shows_a_cloud_and_a_click_attention(page):
    page.get_by_role("tab", name="Depth").click()
    page.get_by_role("button", name="Estimate depth").click()
    page.locator("canvas").wait_for()
    photo = page.locator("img[src*='portrait']").locator("visible=true").first
    photo.click(position={"x": 120, "y": 100})
    page.get_by_text("Attention is added with the factor").wait_for()
