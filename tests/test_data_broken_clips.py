"""Broken clips cost a warning and another draw, not the run."""

import shutil
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, make_moving_clip, make_training_clips

from depthaware.data import Clips, FramePairs, FrameTriples, batches

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six clips of three persons."""
    return make_training_clips(tmp_path_factory.mktemp("data"))


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def broken(tmp_path, data) -> Path:
    """One good clip among an empty file, a text, a video cut short, one with one frame, one with two."""
    shutil.copy(data / "train" / "clips" / "a1.mp4", tmp_path / "good.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    make_clip(tmp_path / "whole.mp4", frames=30, size=(64, 64), options={"movflags": "faststart"})
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 3 // 4])
    (tmp_path / "whole.mp4").unlink()
    make_clip(tmp_path / "one.mp4", frames=1)
    make_clip(tmp_path / "two.mp4", frames=2)
    return tmp_path


def test_broken_clips_are_named_and_counted(broken):
    dropped = Clips(broken, SIZE).check()
    assert dropped.keys() == {"cut.mp4", "empty.mp4", "one.mp4", "text.mp4"}
    assert dropped["one.mp4"] == "has 1 frame, expected at least 2"
    assert "is cut short, " in dropped["cut.mp4"] and "not a video" in dropped["text.mp4"]
    assert Clips(broken, SIZE).check(least=3).keys() == dropped.keys() | {"two.mp4"}


def test_broken_clips_are_skipped_and_warned_about_once(broken):
    checked, clips = Clips(broken, SIZE), Clips(broken, SIZE)
    checked.check(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = [FrameTriples(clips)[i] for i in range(40)]
    assert clips.dropped == checked.dropped
    assert sorted(str(w.message).split("skipping ")[1].split(":")[0] for w in caught) == sorted(clips.dropped)
    assert all(same(FrameTriples(checked)[i], sample) for i, sample in enumerate(samples))


def test_damage_in_the_middle_costs_only_the_frames_that_it_hits(tmp_path):
    make_moving_clip(tmp_path / "good.mp4")
    path = make_moving_clip(tmp_path / "clip.mkv", g="10", bf="0")
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][20]
    content = bytearray(path.read_bytes())
    content[place + 16 : place + 60] = bytes(44)  # the third key frame
    path.write_bytes(content)
    in_memory, by_seeking = Clips(tmp_path, SIZE), Clips(tmp_path, SIZE, cache_gb=0)
    for clips in (in_memory, by_seeking):
        with pytest.raises(ValueError, match=r"frame 20 of 40 cannot be decoded|damaged"):
            clips.read("clip.mkv", [20])
    assert np.array_equal(in_memory.read("clip.mkv", [3, 35]), by_seeking.read("clip.mkv", [3, 35]))
    with pytest.warns(UserWarning, match="skipping clip.mkv"):
        samples = [FramePairs(in_memory)[i] for i in range(20)]
        assert all(same(FramePairs(by_seeking)[i], sample) for i, sample in enumerate(samples))


def test_nothing_but_broken_clips_is_an_error_that_names_them(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    make_clip(tmp_path / "one.mp4", frames=1)
    message = f"data {str(tmp_path)!r}: none of its 2 clips can be used: one.mp4: has 1 frame, .*; text.mp4: "
    with pytest.raises(ValueError, match=message):
        Clips(tmp_path, SIZE).check()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of its 2 clips can be used"):
        FramePairs(Clips(tmp_path, SIZE))[0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*skipping")
def test_an_error_in_a_worker_is_the_same_line_as_without(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    alone, helped = (batches(FramePairs(Clips(tmp_path, SIZE)), 2, stop=2, workers=n) for n in (0, 1))
    with pytest.raises(ValueError) as expected:
        next(alone)
    with pytest.raises(ValueError) as error:
        next(helped)
    assert str(error.value) == str(expected.value) and "\n" not in str(error.value)


def test_of_many_clips_some_are_checked(broken, monkeypatch):
    # Every second one, of cut, empty, good, one, text and two:
    monkeypatch.setattr("depthaware.data.clips.MAX_CHECKED", 3)
    assert Clips(broken, SIZE).check().keys() == {"cut.mp4", "text.mp4"}
