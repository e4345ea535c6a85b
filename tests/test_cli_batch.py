"""`depthaware animate` for many sources and driving videos."""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip

from depthaware.cli.batch import _workers, find_drivings, find_sources
from depthaware.cli.common import progress, say
from depthaware.cli.main import main
from depthaware.dagan import DaGAN
from depthaware.faces import tracking
from depthaware.inference import animate_to_file
from depthaware.media.image import write_image
from depthaware.media.video import read_video

PLAIN = ["--fit", "crop", "--initial-frame", "0", "--dtype", "float32"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Two portraits in a, two clips in b."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        os.mkdir(name)
    for i in (1, 2):
        write_image(f"a/p{i}.png", draw_image(3 * i, (64, 64)))
        make_clip(Path(f"b/d{i}.mp4"), 5, audio="aac" if i == 1 else None)
    return tmp_path


def run(*line: str, weights: str) -> int:
    return main(["animate", *line, "--weights", weights, *PLAIN])


def results() -> list[str]:
    return sorted(str(path) for path in Path("out").rglob("*") if path.is_file())


@pytest.mark.parametrize("options", [[], ["--compare"], ["--mode", "absolute"], ["--smooth"]])
def test_a_batch_is_what_single_commands_make(here, tiny_weights, capsys, options):
    assert run("-s", "a/*.png", "-d", "b/*.mp4", "-o", "out", *options, weights=tiny_weights) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("out/p1_d1.mp4: 5 frames") and said[0].endswith("sound copied")
    assert said[-1] == "out: 4 written, 0 skipped, 0 failed" and len(said) == 5
    assert results() == [f"out/p{i}_d{j}.mp4" for i in (1, 2) for j in (1, 2)]
    for i, j in ((1, 1), (2, 2)):
        assert run(f"a/p{i}.png", f"b/d{j}.mp4", "one.mp4", *options, weights=tiny_weights) == 0
        for ours, theirs in zip(read_video(f"out/p{i}_d{j}.mp4"), read_video("one.mp4"), strict=True):
            assert ours.time == theirs.time
            assert abs(ours.image.astype(int) - theirs.image).max() <= 2


def test_results_made_at_once_are_those_made_in_turn(here, tiny_weights):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert run("-s", "a", "-d", "b/d1.mp4", "-o", "out", weights=tiny_weights) == 0
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert run("-s", "a", "-d", "b/d1.mp4", "-o", "turn", weights=tiny_weights) == 0
    finally:
        torch.set_num_threads(before)
    for i in (1, 2):
        for ours, theirs in zip(read_video(f"out/p{i}_d1.mp4"), read_video(f"turn/p{i}_d1.mp4"), strict=True):
            assert abs(ours.image.astype(int) - theirs.image).max() <= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_results_that_are_being_made(threads):
    before, running, ended = torch.get_num_threads(), Event(), []

    def work(progress) -> str:
        running.set()
        try:
            while True:
                progress(0, 1)
                time.sleep(0.01)
        finally:
            ended.append(True)

    try:
        torch.set_num_threads(threads)
        with pytest.raises(KeyboardInterrupt), _workers(torch.nn.Linear(1, 1), 2) as submit:
            if threads == 2:
                submit(work)
                assert running.wait(10)
            raise KeyboardInterrupt
        assert len(ended) == threads - 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_result_too_large_for_the_memory_is_one_line_and_the_others_are_made(
    here, tiny_weights, capsys, monkeypatch, threads, error
):
    def animate(model, source, *args, **options):
        if source == "a/p1.png":
            raise error
        return animate_to_file(model, source, *args, **options)

    monkeypatch.setattr("depthaware.inference.animate_to_file", animate)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert run("-s", "a", "-d", "b/d2.mp4", "-o", "out", "--quiet", weights=tiny_weights) == 2
    finally:
        torch.set_num_threads(before)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("depthaware: error: out/p1_d2.mp4: out of memory") and "1 written" in last
    assert results() == ["out/p2_d2.mp4"]


def test_lines_stand_above_the_progress_bar_which_leaves_nothing(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    show = progress(False)
    for done in range(3):
        show(done, 2)
        say(f"line {done}")
    written = terminal.getvalue()
    assert "0/2 [" in written
    assert [line.rpartition("\r")[2].strip() for line in written.split("\n")] == ["line 0", "line 1", "line 2", ""]


def test_the_model_is_loaded_once_and_each_driving_video_searched_once(here, tiny_weights, monkeypatch):
    calls = {"loaded": 0, "searched": 0}

    def counted(name, function):
        def call(*args, **options):
            calls[name] += 1
            return function(*args, **options)

        return call

    monkeypatch.setattr(DaGAN, "from_pretrained", counted("loaded", DaGAN.from_pretrained))
    search = counted("searched", tracking.track_driving)
    monkeypatch.setattr("depthaware.inference.driving.track_driving", search)
    assert main(["animate", "-s", "a", "-d", "b", "-o", "out", "--weights", tiny_weights]) == 0
    assert calls == {"loaded": 1, "searched": 2} and len(results()) == 4


def test_what_is_done_is_skipped_unless_it_is_to_be_overwritten(here, tiny_weights, capsys):
    os.mkdir("out")
    Path("out/p1_d1.mp4").write_bytes(b"precious")
    assert run("-s", "a", "-d", "b/d1.mp4", "-o", "out/", weights=tiny_weights) == 0
    assert Path("out/p1_d1.mp4").read_bytes() == b"precious"
    assert capsys.readouterr().out.splitlines()[-1] == "out/: 1 written, 1 skipped, 0 failed"
    assert run("-s", "a", "-d", "b/d1.mp4", "-o", "out/", weights=tiny_weights) == 0
    assert capsys.readouterr().out == "out/: all 2 results are there\n"
    assert run("-s", "a", "-d", "b/d1.mp4", "-o", "out/", "--overwrite", weights=tiny_weights) == 0
    assert read_video("out/p1_d1.mp4").frames == 5


def test_each_failure_is_one_line_and_the_others_are_made(here, tiny_weights, capsys):
    Path("a/bad.png").write_text("I am no image.")
    Path("b/bad.mp4").write_text("I am no video.")
    assert run("-s", "a", "-d", "b/bad.mp4", "b/d1.mp4", "-o", "out", "--quiet", weights=tiny_weights) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in lines[:-1]] == [
        f"out/{name}.mp4" for name in ("bad_bad", "p1_bad", "p2_bad", "bad_d1")
    ]
    assert "a/bad.png: is text" in lines[3] and "b/bad.mp4: is text" in lines[0]
    assert lines[-1] == "depthaware: error: out: 2 written, 0 skipped, 4 failed"
    assert results() == ["out/p1_d1.mp4", "out/p2_d1.mp4"]


def test_a_folder_takes_other_formats(here, tiny_weights):
    assert run("-s", "a/p1.png", "-d", "b", "-o", "out/", "--format", "png", weights=tiny_weights) == 0
    assert results() == [f"out/p1_d{j}/{i:04d}.png" for j in (1, 2) for i in range(5)]


def test_folders_and_patterns_of_frames_are_one_video_those_of_videos_many(here):
    assert find_drivings(["b", "b/*", "b/d2.mp4", "a", "a/*.png", "a/%d.png"]) == [
        *["b/d1.mp4", "b/d2.mp4"] * 2,
        *["b/d2.mp4", "a", "a/*.png", "a/%d.png"],
    ]
    assert find_sources(["a", "a/*.png", "a/p2.png"]) == ["a/p1.png", "a/p2.png"] * 2 + ["a/p2.png"]


BAD = {
    "-s a -d b -o out.mp4": "output 'out.mp4': is one file for 2 sources and 2 driving videos, expected a folder",
    "-s a/p1.png twin/p1.jpg -d b -o out": "output 'out/p1_d1.mp4': would be of a/p1.png under b/d1.mp4 and of twin/",
    "-s a -d b -o a/p1.png": "output 'a/p1.png': is one file",
    "-s a -d b -o a/p1.png/": "'a/p1.png' is a file, expected a folder",
    "-s a -d b -o out --save-depth d.mp4": "--save-depth: is of one result",
    "-o out.mp4 --format gif": "--format gif: is for a folder of results, out.mp4 has its suffix",
    "a/p1.png -s a/p2.png": "a/p1.png: expected no SOURCE here besides --source",
    "1 2 3 4": "expected SOURCE, DRIVING and OUTPUT, got 4 files",
    "-s c/*.png": "c/*.png: found no images",
}


@pytest.mark.parametrize("line", BAD)
def test_wrong_batches_are_one_line(here, tiny_weights, capsys, line):
    os.mkdir("twin")
    write_image("twin/p1.jpg", np.zeros((8, 8, 3), np.uint8))
    assert run(*line.split(), weights=tiny_weights) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and BAD[line] in message, message
    assert not Path("out").exists()


def test_without_a_command_it_prints_its_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: depthaware ")
    done = subprocess.run([sys.executable, "-m", "depthaware"], capture_output=True, text=True)
    assert done.stdout.startswith("usage: depthaware ") and done.returncode == 0
