"""The data of the recipes: which frames make a sample, that it is always the same one, and what broken clips do."""

import io
import json
import shutil
import tarfile
import warnings
from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest
import torch
from clips import make_clip, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data.augment import color_map
from depthaware.data.frames import index_video, read_frames
from depthaware.data.pairs import Clips, FramePairs, FrameTriples, batches
from depthaware.data.prepare.clip_files import Sample, write_shards
from depthaware.media.image import write_image

SIZE = 32


def images(person: int, frames: int = 12) -> list[np.ndarray]:
    """A pattern of the person's own that brightens from frame to frame, 3 gray levels each time."""
    coarse = np.random.default_rng(person).integers(20, 160, (4, 4, 3))
    return [(coarse + 3 * i).repeat(8, 0).repeat(8, 1).astype(np.uint8) for i in range(frames)]


def encode(path: Path, frames=40, pictures=None, codec="libx264", pts=None, **options: str) -> Path:
    """A video with these options of the codec."""
    pictures = pictures or [np.roll(picture(i), 5 * i, axis=1) for i in range(frames)]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 600)
        for i, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts[i] if pts else 24 * i, Fraction(1, 600)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six clips of three persons: a has three, b two, c one."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train" / "clips").mkdir(parents=True)
    rows = ["name,kind,split,identity"]
    for i, name in enumerate(("a1", "a2", "a3", "b1", "b2", "c1")):
        encode(folder / "train" / "clips" / f"{name}.mp4", pictures=images(i), qp="0")
        rows.append(f"{name},clip,train,{name[0]}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Reading.

VARIABLE = [5 + 25 * i + i * i % 19 for i in range(40)]  # at most 18 later than a steady pace
KINDS = {
    "b_frames.mp4": dict(bf="3", g="9"),
    "short_groups.mp4": dict(bf="8", g="3", **{"b-pyramid": "none"}),
    "open_groups.mp4": {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "open_groups.mkv": {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "long_group.mp4": dict(g="250"),
    "variable.mp4": dict(bf="2", g="12", pts=VARIABLE),
    "variable.mkv": dict(bf="2", g="12", pts=VARIABLE),
    "stream.ts": dict(bf="2", g="10"),
    "no_times.avi": dict(codec="mpeg4", bf="2", g="10"),
    "vp9.webm": dict(codec="libvpx-vp9", g="10", deadline="realtime"),
    "animation.gif": dict(codec="gif"),
}


@pytest.mark.parametrize("name", KINDS)
def test_seeking_gives_the_frames_of_decoding_all(name, tmp_path):
    path = encode(tmp_path / name, **KINDS[name])
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with open(path, "rb") as file:
        index = index_video(file)
        assert len(index.times) == len(expected) == 40
        for wanted in (range(40), *([n] for n in range(40)), [39, 0, 17, 18], [8, 30]):
            for number, image in read_frames(file, index, wanted):
                assert np.array_equal(image, expected[number]), (number, wanted)


def test_memory_and_seeking_give_the_same_frames(data):
    in_memory, by_seeking = Clips(data, 24), Clips(data, 24, cache_gb=0)
    for name in in_memory.names:
        numbers = [7, 0, 11, 7]
        frames = in_memory.read(name, numbers)
        assert frames.shape == (4, 24, 24, 3) and np.array_equal(frames, by_seeking.read(name, numbers))
        assert np.array_equal(frames, in_memory.read(name, numbers))  # now out of memory
    for clips, number in ((in_memory, -1), (in_memory, 12), (by_seeking, -1), (by_seeking, 12)):
        with pytest.raises(ValueError, match=f"a1: has 12 frames, expected one of number {number}"):
            clips.read("a1", [0, number])


def test_memory_is_kept_within_its_bound(data):
    one = 12 * SIZE**2 * 3 / 1e9  # GB of one clip
    clips = Clips(data, SIZE, cache_gb=2.5 * one)
    for name in clips.names:
        clips.read(name, [0])
    assert sum(frames.nbytes for frames in clips._kept.values()) == round(2 * one * 1e9)


def test_frames_become_the_central_square_by_area(tmp_path):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    write_image(tmp_path / "0.png", wide)
    expected = wide[:, 32:96].reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(Clips(tmp_path, 16).read(tmp_path.name, [0])[0], expected, atol=2)


def test_a_folder_of_pictures_is_a_clip(tmp_path):
    (tmp_path / "person").mkdir()
    for i, image in enumerate(images(0, 11)):
        write_image(tmp_path / "person" / f"{i}.png", image)  # 10.png after 9.png
    clips = Clips(tmp_path, SIZE, cache_gb=0)
    assert clips.length("person") == 11
    assert np.array_equal(clips.read("person", [10, 2]), [images(0)[10], images(0)[2]])


# Identities.


def test_hold_out_splits_the_persons(data):
    everyone, some, others = (
        Clips(data, SIZE),
        Clips(data, SIZE, hold_out=2),
        Clips(data, SIZE, hold_out=2, held_out=True),
    )
    assert list(some.by_identity) == ["a"] and list(others.by_identity) == ["b", "c"]
    assert sorted(some.names + others.names) == everyone.names == ["a1", "a2", "a3", "b1", "b2", "c1"]
    with pytest.raises(ValueError, match=r"hold_out: expected 0 to 2 of the 3 identities of .*, got 3"):
        Clips(data, SIZE, hold_out=3)


def test_every_person_is_equally_likely(data, monkeypatch):
    clips = Clips(data, SIZE)
    drawn = []
    monkeypatch.setattr(
        clips, "read", lambda name, wanted: drawn.append(name) or np.zeros((len(wanted), 8, 8, 3), np.uint8)
    )
    for index in range(1200):
        FramePairs(clips, augment=False)[index]
    for names, share in (("a1 a2 a3", 1 / 3), ("b1 b2", 1 / 3), ("c1", 1 / 3), ("a2", 1 / 9), ("b1", 1 / 6)):
        found = sum(name in names.split() for name in drawn) / 1200
        assert found == pytest.approx(share, abs=4 * (share * (1 - share) / 1200) ** 0.5)  # four deviations


# Samples.


def kinds(data, seed=0, **how):
    return FramePairs(Clips(data, SIZE, **how), seed=seed, candidates=2), FrameTriples(
        Clips(data, SIZE, **how), seed=seed
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), order=st.permutations(range(5)), first=st.integers(0, 2**40))
def test_a_sample_is_a_function_of_seed_and_index(data, seed, order, first):
    for dataset, other in zip(kinds(data, seed), kinds(data, seed, cache_gb=0), strict=True):
        expected = [dataset[first + i] for i in range(5)]
        for i in order:
            assert same(other[first + i], expected[i])


def test_samples_differ_by_seed_and_index(data):
    (pairs, triples), (other, _) = kinds(data), kinds(data, seed=1)
    assert not same(pairs[0], pairs[1]) and not same(pairs[0], other[0]) and not same(triples[0], triples[1])


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 10**6))
def test_a_pair_is_two_frames_of_one_clip(data, index):
    source, driving = FramePairs(Clips(data, SIZE, cache_gb=0), augment=False)[index]
    assert source.shape == driving.shape == (3, SIZE, SIZE) and source.dtype == torch.float32
    assert number_between(source, driving) != 0


def number_between(one, other) -> int:
    """How many frames one is before the other: the pattern of a clip brightens by 3 levels each frame."""
    levels = (other - one).mean().item() * 255 / 3
    assert (other - one).std() < 0.02  # else they are of two clips
    assert levels == pytest.approx(round(levels), abs=0.3)
    return round(levels)


def test_pairs_are_as_often_forwards_as_backwards_and_all_distances_come(data):
    pairs = FramePairs(Clips(data, SIZE), augment=False)
    gaps = np.array([number_between(*pairs[i]) for i in range(600)])
    assert set(gaps) == set(range(-11, 12)) - {0}
    assert abs((gaps > 0).mean() - 0.5) < 0.08
    assert (np.abs(gaps) == 1).mean() == pytest.approx(2 * 11 / (12 * 11), abs=0.06)


def test_of_more_candidates_the_driver_differs_more(data):
    clips = Clips(data, SIZE)
    one, four = (
        np.mean([abs(number_between(*FramePairs(clips, candidates=n, augment=False)[i])) for i in range(150)])
        for n in (1, 4)
    )
    assert four > one + 1


@settings(max_examples=25, deadline=None)
@given(index=st.integers(0, 10**6), max_gap=st.integers(1, 9))
def test_a_triple_is_evenly_spaced_within_max_gap(data, index, max_gap):
    clips = Clips(data, SIZE, cache_gb=0)
    earlier, target, later = FrameTriples(clips, max_gap=max_gap, augment=False)[index]
    gap = number_between(earlier, target)
    assert 1 <= gap <= min(max_gap, 5) and number_between(target, later) == gap


def test_half_of_all_triples_run_backwards(data):
    triples = FrameTriples(Clips(data, SIZE))
    forwards = np.mean([(triples[i][2] - triples[i][0]).mean() > 0 for i in range(300)])
    assert abs(forwards - 0.5) < 0.12


@settings(max_examples=20, deadline=None)
@given(index=st.integers(0, 10**6), steps=st.integers(1, 3))
def test_adaptive_gaps_take_the_nearest_frame_that_moved_enough(data, index, steps):
    triples = FrameTriples(Clips(data, SIZE, cache_gb=0), min_motion=(3 * steps - 1) / 255, augment=False)
    earlier, target, later = triples[index]
    before, after = number_between(earlier, target), number_between(target, later)
    assert max(before, after) == steps  # fewer only at an end of the clip
    assert min(before, after) >= 1


def test_adaptive_gaps_take_the_largest_motion_where_none_is_enough(data):
    triples = FrameTriples(Clips(data, SIZE), min_motion=1.0, max_gap=3, augment=False)
    for index in range(40):
        earlier, target, later = triples[index]
        before, after = number_between(earlier, target), number_between(target, later)
        assert max(before, after) == 3 and min(before, after) >= 1  # fewer only at an end of the clip


# Colors.

FACTORS = st.floats(0.9, 1.1)
TURNS = st.floats(-0.1, 0.1)


def patch(seed: int, low: int = 70, high: int = 180) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (2, 6, 5, 3)).astype(np.uint8)  # nothing to clamp


@settings(max_examples=25, deadline=None)
@given(factor=FACTORS, seed=st.integers(0, 99))
def test_brightness_contrast_and_saturation_are_those_of_torchvision(factor, seed):
    functional = pytest.importorskip("torchvision.transforms.functional")
    frames = patch(seed)
    mean = frames[0].mean(axis=(0, 1)) / 255
    image = torch.from_numpy(frames[0]).permute(2, 0, 1) / 255
    for change, factors in (
        (functional.adjust_brightness, (factor, 1, 1)),
        (functional.adjust_contrast, (1, factor, 1)),
        (functional.adjust_saturation, (1, 1, factor)),
    ):
        found = color_map(*factors, hue=0, mean=mean)(frames)[0]
        np.testing.assert_allclose(found, change(image, factor), atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(turns=TURNS, seed=st.integers(0, 99))
def test_hue_turns_colors_around_gray(turns, seed):
    matrix, offset = color_map(1, 1, 1, turns, mean=np.full(3, 0.5))
    np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-12)  # gray stays
    np.testing.assert_allclose(offset, 0, atol=1e-12)
    color = np.random.default_rng(seed).random(3)
    tint, turned = color - color.mean(), matrix @ color - color.mean()
    assert turned.sum() == pytest.approx(0, abs=1e-12)  # as bright as before
    cosine = tint @ turned / (np.linalg.norm(tint) * np.linalg.norm(turned))
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(tint))
    assert np.arccos(np.clip(cosine, -1, 1)) == pytest.approx(2 * np.pi * abs(turns), abs=1e-6)
    back = color_map(1, 1, 1, -turns, mean=np.full(3, 0.5)).matrix
    np.testing.assert_allclose(back @ matrix, np.eye(3), atol=1e-12)


def test_hue_turns_the_way_torchvision_does():
    functional = pytest.importorskip("torchvision.transforms.functional")
    red = np.full((1, 1, 1, 3), (150, 100, 100), np.uint8)
    found = color_map(1, 1, 1, 0.08, mean=np.full(3, 0.5))(red)[0]
    expected = functional.adjust_hue(torch.from_numpy(red[0]).permute(2, 0, 1) / 255, 0.08).numpy()
    assert np.array_equal(np.argsort(found.ravel()), np.argsort(expected.ravel()))  # towards yellow
    np.testing.assert_allclose(found, expected, atol=0.08)


@settings(max_examples=25, deadline=None)
@given(factors=st.tuples(FACTORS, FACTORS, FACTORS, TURNS), seed=st.integers(0, 99))
def test_all_together_is_one_after_the_other(factors, seed):
    frames, mean = patch(seed), np.array([0.4, 0.5, 0.6])
    whole, colors = color_map(*factors, mean=mean), frames.reshape(-1, 3) / 255
    for i, one in enumerate(np.eye(4, dtype=bool)):
        alone = np.where(one, factors, (1, 1, 1, 0))
        # The contrast is around the mean as brightness left it.
        matrix, offset = color_map(*alone, mean=mean * factors[0] if i == 1 else mean)
        colors = colors @ matrix.T + offset
    np.testing.assert_allclose(whole(frames).transpose(0, 2, 3, 1).reshape(-1, 3), colors.clip(0, 1), atol=1e-6)


def test_colors_are_clamped():
    changed = color_map(1.1, 1.1, 1.1, 0.1, mean=np.full(3, 0.5))(patch(0, 0, 256))
    assert changed.min() == 0 and changed.max() == 1


def test_all_frames_of_a_sample_are_changed_alike(tmp_path):
    still = images(0, 1) * 6
    for i, image in enumerate(still):
        write_image(tmp_path / f"{i}.png", image)
    clips = Clips(tmp_path, SIZE)
    plain = torch.from_numpy(still[0]).permute(2, 0, 1) / 255
    flipped = 0
    for index in range(40):
        for dataset in (FramePairs(clips), FrameTriples(clips)):
            first, *others = dataset[index]
            assert all(torch.equal(first, other) for other in others) and not torch.equal(first, plain)
        flipped += bool((first - plain.flip(-1)).abs().mean() < (first - plain).abs().mean())
    assert 8 < flipped < 32


# Batches.


def stacked(steps) -> list[torch.Tensor]:
    return [torch.cat(part) for part in zip(*steps, strict=True)]


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 99), skipped=st.integers(0, 2), world=st.sampled_from([1, 2, 4]), kind=st.integers(0, 1))
def test_ranks_share_out_the_batch_and_a_later_start_goes_on(data, start, skipped, world, kind):
    dataset = kinds(data)[kind]
    whole = list(batches(dataset, 4, start=start, stop=start + 14))
    assert [len(step[0]) for step in whole] == [4, 4, 4]  # and two left over
    assert same(whole[0], [torch.stack(frames) for frames in zip(*(dataset[start + i] for i in range(4)), strict=True)])
    ranks = [batches(dataset, 4, start=start, stop=start + 14, rank=r, world=world) for r in range(world)]
    assert all(same(stacked(parts), step) for parts, step in zip(zip(*ranks, strict=True), whole, strict=True))
    later = list(batches(dataset, 4, start=start + 4 * skipped, stop=start + 14))
    assert all(same(a, b) for a, b in zip(later, whole[skipped:], strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_the_number_of_workers_changes_nothing(data):
    dataset = kinds(data)[0]
    torch.manual_seed(3)
    alone = list(batches(dataset, 4, stop=16))
    state = torch.get_rng_state()
    dataset.clips.read("a1", [0])  # a decoder before the fork does not harm
    helped = list(batches(dataset, 4, stop=16, workers=2))
    assert len(alone) == len(helped) == 4 and all(same(a, b) for a, b in zip(alone, helped, strict=True))
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())  # the recipe's own chance is left alone


def test_a_batch_that_cannot_be_shared_out_is_refused(data):
    with pytest.raises(ValueError, match="batch: expected a multiple of the 2 processes, got 3"):
        batches(kinds(data)[0], 3, stop=9, world=2)


@pytest.mark.parametrize(("kind", "option"), [(FramePairs, "candidates"), (FrameTriples, "max_gap")])
def test_a_number_below_one_is_refused(data, kind, option):
    with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
        kind(Clips(data, SIZE), **{option: 0})


# Broken clips.


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
    encode(tmp_path / "good.mp4")
    path = encode(tmp_path / "clip.mkv", g="10", bf="0")
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


def test_of_many_clips_some_are_looked_into(broken, monkeypatch):
    # Every second one, of cut, empty, good, one, text and two:
    monkeypatch.setattr("depthaware.data.clips.LOOKED_AT", 3)
    assert Clips(broken, SIZE).check().keys() == {"cut.mp4", "text.mp4"}


# Shards.


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory) -> Path:
    """The clips of `data` as WebDataset writes them."""
    webdataset = pytest.importorskip("webdataset")
    folder = tmp_path_factory.mktemp("shards")
    paths = sorted((data / "train" / "clips").iterdir())
    for number, some in enumerate((paths[:4], paths[4:])):
        with webdataset.TarWriter(str(folder / f"{number}.tar")) as writer:
            for path in some:
                about = {"identity": path.stem[0], "split": "train"}
                writer.write({"__key__": path.stem, "mp4": path.read_bytes(), "json": about})
    return folder


def test_shards_give_the_samples_of_their_folder(data, shards):
    expected = FramePairs(Clips(data, SIZE))
    for where in (shards, f"{shards}/*.tar"):
        clips = Clips(where, SIZE, cache_gb=0)
        assert clips.by_identity == expected.clips.by_identity
        assert all(same(FramePairs(clips)[i], expected[i]) for i in range(4))
    with pytest.raises(ValueError, match="expected clips of split 'test', found none"):
        Clips(shards, SIZE, split="test")


def test_of_shards_on_a_server_the_clips_bytes_alone_are_fetched(data, shards, monkeypatch):
    memory = fsspec.filesystem("memory")
    for path in shards.glob("*.tar"):
        memory.pipe(f"/server/{path.name}", path.read_bytes())
    clips = Clips("memory://server/*.tar", SIZE, cache_gb=0)
    fetched = []
    whole = type(memory).cat_file
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: fetched.append(whole(*a, **k)) or fetched[-1])
    assert np.array_equal(clips.read("b2", [3]), Clips(data, SIZE).read("b2", [3]))
    assert set(map(bytes, fetched)) == {(data / "train" / "clips" / "b2.mp4").read_bytes()}


def test_the_shards_of_write_shards_are_read_by_webdataset_and_by_clips(data, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = sorted((data / "train" / "clips").iterdir())
    write_shards(tmp_path, [Sample(path, path.stem[0], "train", 12, "film.mp4") for path in paths], megabytes=0.03)
    urls = sorted(map(str, tmp_path.glob("*.tar")))
    assert len(urls) > 1
    found = {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}
    assert {key: sample["mp4"] for key, sample in found.items()} == {path.stem: path.read_bytes() for path in paths}
    assert json.loads(found["b1"]["json"])["identity"] == "b"
    assert Clips(tmp_path, SIZE).by_identity == Clips(data, SIZE).by_identity


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_shard_that_is_cut_short_is_named(shards, tmp_path_factory, share):
    with tarfile.open(shards / "0.tar") as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
    cut = tmp_path_factory.mktemp("cut") / "cut.tar"
    cut.write_bytes((shards / "0.tar").read_bytes()[: int(share * (end + 1))])
    with pytest.raises(ValueError, match=r"cut\.tar: is cut short, or no tar file"):
        Clips(cut, SIZE)


def test_a_key_in_two_shards_is_refused(shards, tmp_path):
    for name in ("first.tar", "second.tar"):
        shutil.copy(shards / "0.tar", tmp_path / name)
    with pytest.raises(ValueError, match=r"second\.tar: has 'a1', which .*first.tar has too"):
        Clips(tmp_path, SIZE)


def write_tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("key.json", b"{a}", "key.json is not JSON"),
        ("key.json", b"\xff\xfe\xff", "key.json is not JSON"),
        ("key.json", b"[1]", "key.json: expected a JSON object, got list"),
        ("id10001#abc#001.txt#000.mp4", b"", "id10001#abc#001.txt#000.mp4: a key ends at the first dot"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(tmp_path, name, content, message):
    write_tar(tmp_path / "odd.tar", {name: content})
    with pytest.raises(ValueError, match=rf"odd\.tar: {message}"):
        Clips(tmp_path, SIZE)


def test_other_files_of_a_sample_are_left_alone(data, tmp_path):
    clip = (data / "train" / "clips" / "a1.mp4").read_bytes()
    files = {"a.json": b'{"identity": "anna"}', "a.mp4": clip, "a.mask.mp4": b"", "a.eyes.json": b"[]", "._a.mp4": b""}
    write_tar(tmp_path / "0.tar", files)
    assert Clips(tmp_path, SIZE).by_identity == {"anna": ["a"]}


def test_a_folder_with_a_manifest_is_never_read_as_shards(data, shards, tmp_path):
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    write_tar(tmp_path / "backup.tar", {"test.mp4": b""})
    assert Clips(tmp_path, SIZE).by_identity == Clips(data, SIZE).by_identity


def test_a_server_that_fails_is_an_os_error_that_names_the_shard(shards, monkeypatch):
    class Unavailable(Exception):  # as aiohttp has them
        pass

    def fail(*_, **__):
        raise Unavailable("503")

    memory = fsspec.filesystem("memory")
    memory.pipe("/failing/0.tar", (shards / "0.tar").read_bytes())
    clips = Clips("memory://failing/0.tar", SIZE)
    monkeypatch.setattr(type(memory), "cat_file", fail)
    assert clips.check() == {}  # nothing is fetched for that
    with pytest.raises(OSError, match="Unavailable: 503") as error:
        clips.read("a1", [0])
    assert error.value.filename.startswith("memory:") and error.value.filename.endswith("/failing/0.tar")
