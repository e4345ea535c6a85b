"""Samples of training clips: which frames make one, that it is always the same one, and how batches are divided."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_training_clips, pattern
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data import Clips, FramePairs, FrameTriples, batches
from depthaware.media.image import write_image

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six clips of three persons."""
    return make_training_clips(tmp_path_factory.mktemp("data"))


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def datasets(data, seed=0, **options):
    clips = Clips(data, SIZE, **options)
    return FramePairs(clips, seed=seed, candidates=2), FrameTriples(clips, seed=seed)


# Samples.


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


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), order=st.permutations(range(5)), first=st.integers(0, 2**40))
def test_a_sample_is_a_function_of_seed_and_index(data, seed, order, first):
    for dataset, other in zip(datasets(data, seed), datasets(data, seed, cache_gb=0), strict=True):
        expected = [dataset[first + i] for i in range(5)]
        for i in order:
            assert same(other[first + i], expected[i])


def test_samples_differ_by_seed_and_index(data):
    (pairs, triples), (other, _) = datasets(data), datasets(data, seed=1)
    assert not same(pairs[0], pairs[1]) and not same(pairs[0], other[0]) and not same(triples[0], triples[1])
    assert not same(pairs[1], other[0])  # another seed is not a shifted index


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 10**6))
def test_a_pair_is_two_frames_of_one_clip(data, index):
    source, driving = FramePairs(Clips(data, SIZE, cache_gb=0), augment=False)[index]
    assert source.shape == driving.shape == (3, SIZE, SIZE) and source.dtype == torch.float32
    assert number_between(source, driving) != 0


def number_between(one, other) -> int:
    """Number of frames between the two: the pattern of a clip brightens by 3 levels each frame."""
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


def test_with_more_candidates_the_driving_frame_differs_more(data):
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


def test_all_frames_of_a_sample_are_changed_alike(tmp_path):
    still = pattern(0, 1) * 6
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


@pytest.mark.parametrize(("kind", "option"), [(FramePairs, "candidates"), (FrameTriples, "max_gap")])
def test_a_number_below_one_is_refused(data, kind, option):
    with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
        kind(Clips(data, SIZE), **{option: 0})


# Batches.


def stacked(steps) -> list[torch.Tensor]:
    return [torch.cat(part) for part in zip(*steps, strict=True)]


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 99), skipped=st.integers(0, 2), world=st.sampled_from([1, 2, 4]), kind=st.integers(0, 1))
def test_ranks_divide_the_batch_and_a_later_start_resumes(data, start, skipped, world, kind):
    dataset = datasets(data)[kind]
    whole = list(batches(dataset, 4, start=start, stop=start + 14))
    assert [len(step[0]) for step in whole] == [4, 4, 4]  # and two left over
    assert same(whole[0], [torch.stack(frames) for frames in zip(*(dataset[start + i] for i in range(4)), strict=True)])
    ranks = [batches(dataset, 4, start=start, stop=start + 14, rank=r, world=world) for r in range(world)]
    assert all(same(stacked(parts), step) for parts, step in zip(zip(*ranks, strict=True), whole, strict=True))
    later = list(batches(dataset, 4, start=start + 4 * skipped, stop=start + 14))
    assert all(same(a, b) for a, b in zip(later, whole[skipped:], strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_the_number_of_workers_changes_nothing(data):
    dataset = datasets(data)[0]
    torch.manual_seed(3)
    alone = list(batches(dataset, 4, stop=16))
    state = torch.get_rng_state()
    dataset.clips.read("a1", [0])  # a decoder before the fork does no harm
    helped = list(batches(dataset, 4, stop=16, workers=2))
    assert len(alone) == len(helped) == 4 and all(same(a, b) for a, b in zip(alone, helped, strict=True))
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())  # the global generator is not used


def test_a_batch_that_cannot_be_divided_is_refused(data):
    with pytest.raises(ValueError, match="batch: expected a multiple of the 2 processes, got 3"):
        batches(datasets(data)[0], 3, stop=9, world=2)
