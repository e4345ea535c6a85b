"""Media with absurd numbers in them: rates, sizes, gaps; and generators that leave nothing running."""

import gc
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from clips import draw_image, make_clip

from depthaware import animate
from depthaware.media import animation, container, decoding
from depthaware.media.image import read_image
from depthaware.media.video import Frame, read_video, write_video


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mp4"])
@pytest.mark.parametrize("step", [Fraction(1, 10**6), Fraction(1, 48000), Fraction(10**4)])
def test_a_clip_of_any_rate_is_copied_with_all_its_frames(tmp_path, suffix, step):
    with av.open(str(tmp_path / f"a.{suffix}"), "w") as output:
        stream = output.add_stream("mpeg4" if suffix != "avi" else "mjpeg", rate=1 / step if step < 1 else 1)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuv420p" if suffix != "avi" else "yuvj420p"
        stream.codec_context.time_base = max(step, Fraction(1, 65535)) if step < 1 else Fraction(1)
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(draw_image(i), format="rgb24")
            frame.pts, frame.time_base = i * (1 if step < 1 else 10**4), stream.codec_context.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    video = read_video(tmp_path / f"a.{suffix}")
    assert Fraction(1, 100) <= video.rate <= 1000 and video.time_base >= Fraction(1, 10**6)
    assert max(video.rate.as_integer_ratio()) < 2**31
    frames = list(video)
    with write_video(tmp_path / "b.mp4", video.size, video.rate, video.time_base) as write:
        for frame in frames:
            write(frame)
    assert len(frames) == 6 == len(list(read_video(tmp_path / "b.mp4")))


def test_a_lack_of_memory_is_no_damage():
    class Stream:
        def decode(self, _):
            raise av.error.MemoryError(12, "Cannot allocate memory")

    with pytest.raises(MemoryError):
        list(decoding.decode(Stream(), [], lambda _: None))


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp"])
def test_times_that_no_file_holds_are_one_line(tmp_path, name):
    opened = write_video(tmp_path / name, (48, 64), Fraction(25), Fraction(1, 10**6))
    with pytest.raises(ValueError, match=rf"{name}: cannot be written"), opened as write:
        for time in (0, 2**38, 2**62):
            write(Frame(draw_image(), Fraction(time)))
    assert not list(tmp_path.iterdir())


def test_frames_are_only_so_large(tmp_path, monkeypatch):
    for i, size in enumerate([(48, 64), (96, 128)]):
        make_clip(tmp_path / f"{i}.h264", size=size)
    (tmp_path / "grows.h264").write_bytes((tmp_path / "0.h264").read_bytes() + (tmp_path / "1.h264").read_bytes())
    assert len(list(read_video(tmp_path / "grows.h264"))) == 24
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48)
    assert len(list(read_video(tmp_path / "0.h264"))) == 12
    with pytest.raises(ValueError, match=r"1.h264: has frames of 128 x 96 pixels, expected at most 3072 pixels$"):
        read_video(tmp_path / "1.h264")
    with pytest.warns(UserWarning, match=r"grows.h264: \d+ of 24 frames are damaged"):
        assert {frame.image.shape for frame in read_video(tmp_path / "grows.h264")} == {(48, 64, 3)}


def test_blocks_of_a_gif_are_counted_across_parts(tmp_path):
    path, count = tmp_path / "a", 0
    for end in range(5):
        path.write_bytes(b"x" * ((1 << 20) - end) + animation._GIF_CONTROL * 3)
        with open(path, "rb") as file:
            count += animation._count(file, animation._GIF_CONTROL)
    assert count == 15


def test_a_deep_gray_image_is_read_without_floats_of_its_size(tmp_path):
    values = np.linspace(0, 65535, 1000 * 1000).astype(np.uint16).reshape(1000, 1000)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    tracemalloc.start()
    try:
        image = read_image(tmp_path / "a.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(image[..., 0], np.rint(values / 65535 * 255))
    assert peak < 8 * values.size  # one array of float64


def threads() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs to see a process's threads")
@pytest.mark.filterwarnings("ignore:no face found")
@pytest.mark.parametrize("drop", ["close", "forget"])
def test_generators_of_frames_hold_no_threads_once_dropped(tiny_model, tmp_path, drop):
    make_clip(tmp_path / "a.mp4", 40)
    options = {"fit": "crop", "initial_frame": 0, "batch_size": 1}
    next(animate(tiny_model, draw_image(), tmp_path / "a.mp4", **options))
    before = threads()
    frames = [animate(tiny_model, draw_image(), tmp_path / "a.mp4", **options) for _ in range(3)]
    for each in frames:
        next(each)
    assert threads() > before
    for each in frames if drop == "close" else ():
        each.close()
    if drop == "forget":
        del frames, each
    assert threads() == before
