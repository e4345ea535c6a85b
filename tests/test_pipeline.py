"""Reading and writing beside the work: same order, same errors, and no thread that outlives it."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware import DaGAN
from depthaware.inference import animate, animate_to_file
from depthaware.inference.depth_maps import depth_to_file, gray_painter, video_painter
from depthaware.media.image import fetch, from_pixels, to_pixels, to_uint8
from depthaware.media.threads import background, prefetch
from depthaware.media.video import Frame, Video, read_video, write_video

SOURCE = draw_image(3, (64, 64))
DEPTHS = st.integers(1, 5)
ITEMS = st.lists(st.integers(), max_size=20)
SECOND = 1.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "depthaware"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


@pytest.fixture
def clip(tmp_path) -> Video:
    noise = np.random.default_rng(0).integers(0, 255, (11, 8, 8, 3), "u1").repeat(9, 1).repeat(7, 2)
    return read_video(make_clip(tmp_path / "clip.mp4", frames=11, size=(72, 56), images=list(noise), audio="aac"))


def soon(condition) -> bool:
    deadline = time.monotonic() + SECOND
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


@given(st.lists(st.one_of(st.none(), st.integers()), max_size=20), DEPTHS)
@settings(max_examples=30, deadline=None)
def test_prefetch_changes_nothing(items, depth):
    with prefetch(items, depth) as ahead:
        assert list(ahead) == items
        assert list(ahead) == []


@given(ITEMS, DEPTHS)
@settings(max_examples=30, deadline=None)
def test_an_error_comes_after_the_items_before_it(items, depth):
    error, seen = OSError("cut short"), []

    def broken():
        yield from items
        raise error

    with pytest.raises(OSError) as caught, prefetch(broken(), depth) as ahead:
        for item in ahead:
            seen.append(item)
    assert caught.value is error
    assert seen == items


@given(DEPTHS, st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_prefetch_reads_as_far_ahead_as_it_may_and_no_further(depth, asked):
    read = []
    with prefetch((read.append(i) for i in count()), depth) as ahead:
        assert len(list(islice(ahead, asked))) == asked
        assert soon(lambda: len(read) == asked + depth)
        time.sleep(0.002)
        assert len(read) == asked + depth


@pytest.mark.parametrize("leave", [None, ValueError, KeyboardInterrupt, GeneratorExit])
def test_leaving_early_stops_the_reader_and_closes_what_it_reads(leave):
    closed = []

    def endless():
        try:
            yield from count()
        finally:
            closed.append(threading.current_thread().name)

    def work():
        with prefetch(endless(), 3) as ahead:
            next(ahead)
            if leave:
                raise leave

    start = time.monotonic()
    if leave:
        with pytest.raises(leave):
            work()
    else:
        work()
    assert time.monotonic() - start < SECOND
    assert closed == ["depthaware"]


def test_reading_goes_on_beside_the_work():
    turns = threading.Barrier(2, timeout=SECOND)  # breaks unless both are there at once

    def driver():
        yield "first"
        turns.wait()
        yield "second"

    with prefetch(driver(), 1) as ahead:
        for item in ahead:
            if item == "first":
                turns.wait()
    assert item == "second"


@given(ITEMS, DEPTHS)
@settings(max_examples=30, deadline=None)
def test_background_calls_in_order_and_is_done_at_the_end(items, depth):
    written = []
    with background(lambda item, *, double: written.append((item, double)), depth) as write:
        for item in items:
            write(item, double=2 * item)
    assert written == [(item, 2 * item) for item in items]


@pytest.mark.parametrize("depth", [1, 3])
def test_the_caller_of_background_waits_when_it_is_far_ahead(depth):
    gate, called = threading.Semaphore(0), []
    with background(lambda _: gate.acquire(), depth) as write:

        def call() -> None:
            for i in range(2 * depth):
                write(i)
                called.append(i)

        caller = threading.Thread(target=call)
        caller.start()
        assert soon(lambda: len(called) == depth)
        time.sleep(0.05)
        assert len(called) == depth
        gate.release(2 * depth)
        caller.join()
    assert len(called) == 2 * depth


@given(st.integers(0, 5), DEPTHS)
@settings(max_examples=20, deadline=None)
def test_the_writers_error_is_raised_and_nothing_is_written_after_it(good, depth):
    error, written = OSError(28, "No space left on device"), []

    def write(item: int) -> None:
        if item == good:
            raise error
        written.append(item)

    with pytest.raises(OSError) as caught, background(write, depth) as later:
        for item in range(good + 1):  # the last one may fail when the block is already over
            later(item)
    assert caught.value is error
    assert written == list(range(good))
    with pytest.raises(OSError) as caught, background(write, depth) as later:
        for item in count():
            later(item)
    assert caught.value is error


def test_a_caller_who_does_not_listen_never_hangs():
    with pytest.raises(ZeroDivisionError), background(lambda: 1 / 0, 2) as divide:
        for _ in range(9):
            try:
                divide()
            except ZeroDivisionError:
                continue


@pytest.mark.parametrize("second, seen", [(ValueError, OSError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_the_first_error_is_seen_unless_the_user_is_impatient(second, seen):
    failing = threading.Event()

    def write() -> None:
        failing.set()
        raise OSError

    with pytest.raises(seen), background(write, 2) as later:
        later()
        failing.wait()
        time.sleep(0.05)
        raise second


def test_after_an_error_what_has_not_begun_is_dropped():
    begun, written = threading.Event(), []

    def write(item: int) -> None:
        begun.set()
        time.sleep(0.05)
        written.append(item)

    with pytest.raises(ValueError), background(write, 5) as later:
        for item in range(5):
            later(item)
        begun.wait()
        raise ValueError
    assert written == [0]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs to send signals to a thread")
@pytest.mark.parametrize("where", ["reader", "writer", "end"])
def test_ctrl_c_ends_every_wait(where):
    release, main = threading.Event(), threading.get_ident()

    def stuck(*_) -> int:
        release.wait(10)
        return 0

    def wait_for_it() -> None:
        if where == "reader":
            with prefetch(map(stuck, [0]), 1) as ahead:
                next(ahead)
        else:
            with background(stuck, 1) as later:
                for _ in range(1 if where == "end" else 2):
                    later()

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.05)
        release.set()  # the reader and the writer finish what they are at

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    timer, start = threading.Timer(0.2, interrupt), time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for_it()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 0.25 + SECOND


def test_a_forgotten_generator_does_not_keep_the_process_alive():
    code = """
from itertools import count
from depthaware.media.threads import background, prefetch
def forgotten():
    with prefetch(count(), 2) as ahead, background(print, 2) as later:
        for i in ahead:
            later(i)
            yield i
frames = forgotten()
next(frames)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


# The same of animations


@pytest.fixture
def written(monkeypatch) -> dict[str, list[Frame]]:
    """Frames by the name of the file that they are for; x264 would not make the same file twice of some heights."""
    files: dict[str, list[Frame]] = {}

    @contextmanager
    def record(path, size, rate, time_base, **_):
        files[path] = []
        yield lambda frame: files[path].append(Frame(frame.image.copy(), frame.time))

    monkeypatch.setattr("depthaware.inference.animation.write_video", record)
    monkeypatch.setattr("depthaware.inference.depth_maps.write_video", record)
    return files


def assert_same(frames: list[Frame], expected: list[Frame]) -> None:
    assert [frame.time for frame in frames] == [frame.time for frame in expected]
    for a, b in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_the_file_has_the_very_frames_of_animate(tiny_model, clip, written, compare, batch_size):
    options = dict(batch_size=batch_size, fit="pad", initial_frame="best")
    animate_to_file(tiny_model, SOURCE, clip, "a.mp4", compare=compare, save_depth="d.mp4", **options)
    paint = gray_painter(tiny_model, SOURCE)
    shown, depth = [], []
    for frame in animate(tiny_model, SOURCE, clip, **options):
        panels = (SOURCE, frame.driving, frame.image) if compare else (frame.image,)
        shown.append(Frame(np.hstack(panels), frame.time))
        depth.append(to_uint8(paint(frame.image))[0].astype(int))
    assert_same(written["a.mp4"], shown)
    for a, b in zip(written["d.mp4"], depth, strict=True):
        assert abs(a.image - b).max() <= 1


def test_depth_of_a_video_is_that_of_its_frames(tiny_model, clip, written):
    depth_to_file(tiny_model, clip, "d.mp4")
    paint = video_painter(tiny_model, (frame.image for frame in clip), clip.frames)
    assert_same(written[Path("d.mp4")], [Frame(to_uint8(paint(frame.image))[0], frame.time) for frame in clip])


def test_gray_of_a_batch_is_that_of_its_images(tiny_model):
    paint = gray_painter(tiny_model, SOURCE)
    images = np.stack([draw_image(i, (64, 64)) for i in range(3)])
    one_by_one = torch.cat([paint(image) for image in images])
    torch.testing.assert_close(paint(from_pixels(torch.from_numpy(images))), one_by_one, atol=1e-5, rtol=0)


class Broken(Exception):
    pass


@pytest.mark.parametrize("stage", ["driver", "network", "encoder", "progress"])
def test_an_error_anywhere_is_seen_and_leaves_nothing(tiny_model, clip, tmp_path, monkeypatch, stage):
    error = Broken(stage)
    turns = count()

    def fail(*_, **__) -> None:
        if next(turns) == 5:
            raise error

    def failing(function):
        return lambda *args, **options: fail() or function(*args, **options)

    options = {}
    if stage == "driver":
        fit_square = sys.modules["depthaware.media.image"].fit_square
        monkeypatch.setattr("depthaware.inference.driving.fit_square", failing(fit_square))
    elif stage == "network":
        monkeypatch.setattr(tiny_model, "drive", failing(tiny_model.drive))
    elif stage == "encoder":

        @contextmanager
        def write_badly(*args, **options):
            with write_video(*args, **options) as write:
                yield failing(write)

        monkeypatch.setattr("depthaware.inference.animation.write_video", write_badly)
    else:
        options["progress"] = fail
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(Broken) as caught:
        outputs = dict(output=tmp_path / "a.mp4", save_depth=tmp_path / "d.mp4")
        animate_to_file(tiny_model, SOURCE, clip, batch_size=1, **outputs, **options)
    assert caught.value is error
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert threads() == []


def test_animate_itself_has_no_threads(tiny_model, clip):
    frames = animate(tiny_model, SOURCE, clip, initial_frame="best", batch_size=2)
    next(frames)
    assert threads() == []
    frames.close() if hasattr(frames, "close") else None


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_pixels_survive_the_way_there_and_back(count, height, width, seed):
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), "u1"))
    assert torch.equal(to_pixels(from_pixels(pixels)), pixels)
    np.testing.assert_array_equal(fetch(pixels)(), pixels.numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_nothing_waits_and_the_frames_are_those_of_the_cpu(tiny_weights, clip, tmp_path):
    on_gpu = DaGAN.from_pretrained(tiny_weights).cuda()
    on_cpu = DaGAN.from_pretrained(tiny_weights)
    options = dict(batch_size=2)
    animate_to_file(on_cpu, SOURCE, clip, tmp_path / "cpu.mp4", **options)
    animate_to_file(on_gpu, SOURCE, clip, tmp_path / "gpu.mp4", **options)

    def listen(done: int, total: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if done < total else "default")

    try:
        animate_to_file(on_gpu, SOURCE, clip, tmp_path / "gpu.mp4", progress=listen, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    pairs = zip(read_video(tmp_path / "cpu.mp4"), read_video(tmp_path / "gpu.mp4"), strict=True)
    assert max(abs(a.image.astype(int) - b.image).mean() for a, b in pairs) < 2
    assert [frame.time for frame in read_video(tmp_path / "gpu.mp4")] == [Fraction(i, 25) for i in range(11)]
