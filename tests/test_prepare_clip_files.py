"""Clips on disk: picked frames, measured motion, and the packing of clips into shards."""

import shutil
import tarfile
from fractions import Fraction
from itertools import pairwise

import numpy as np
from clips import draw_image, file_contents
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data.prepare import Crop, ShardSample, pick_frames, write_clip, write_shards
from depthaware.media.video import Frame

laws = settings(max_examples=100, deadline=None, derandomize=True)


@laws
@given(st.integers(20, 60), st.integers(5, 60), st.integers(0, 10))
def test_picked_frames_are_as_many_as_asked_and_none_twice(rate, fps, start):
    frames = [Frame(draw_image(), start + Fraction(i, rate)) for i in range(rate)]
    times = [frame.time - start for frame in pick_frames(frames, Fraction(fps))]
    assert len(times) == min(fps, rate)
    assert all(a < b for a, b in pairwise(times))
    if fps <= rate:
        assert all(0 <= time - Fraction(k, fps) < Fraction(1, rate) for k, time in enumerate(times))


def test_motion_is_the_change_in_a_fifth_of_a_second(tmp_path):
    frames = [Frame(np.full((64, 64, 3), 4 * i, np.uint8), Fraction(i, 25)) for i in range(26)]
    clip = write_clip(tmp_path / "a.mp4", frames, Crop(0, 0, 64), size=32, rate=Fraction(25), fps=0)
    assert clip == (26, 25, 20)
    clip = write_clip(tmp_path / "b.mp4", frames[::5], Crop(0, 0, 64), size=32, rate=Fraction(5), fps=0)
    assert clip == (6, 5, 20)


@settings(laws, max_examples=20)
@given(st.lists(st.integers(0, 30000), min_size=1, max_size=9), st.floats(0.03, 0.2))
def test_shards_are_no_larger_than_asked_and_the_same_each_time(tmp_path_factory, sizes, megabytes):
    folder = tmp_path_factory.mktemp("shards")
    samples = [ShardSample(folder / f"{i}.mp4", "é", "train", 1, "x") for i in range(len(sizes))]
    for sample, size in zip(samples, sizes, strict=True):
        sample.path.write_bytes(b"x" * size)
    (folder / "out").mkdir()
    (folder / "out" / "000099.tar").touch()  # of an earlier run with smaller ones
    count = write_shards(folder / "out", samples, megabytes)
    first = file_contents(folder / "out")
    assert len(first) == count
    for name in first:
        with tarfile.open(folder / "out" / name) as tar:
            assert len(first[name]) <= megabytes * 1e6 or len(tar.getnames()) == 2
    assert write_shards(folder / "out", samples[::-1], megabytes) == count
    assert file_contents(folder / "out") == first
    shutil.rmtree(folder)
