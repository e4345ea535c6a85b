"""Landmarks of clips: their files, the choice of pairs by expression, and that images and points move together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_training_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data import Clips, GuidedPairs, Landmarks, batches, choose_pair, expression, find_landmarks, move
from depthaware.data.landmarks import MIRRORED
from depthaware.losses import region_weights

NAMES = ("a1", "a2", "a3", "b1", "b2", "c1")
FRAMES = 12


def talking(seed: int) -> np.ndarray:
    """Landmarks (T, 68, 2) of a face whose mouth opens once and that blinks once."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(-0.02, 0.02, (68, 2)) + np.linspace(-0.5, 0.5, 68)[:, None]
    face[36:42, 0], face[42:48, 0], face[36:48, 1] = -0.3, 0.3, -0.2
    face[[36, 42], 0] -= 0.08
    face[[39, 45], 0] += 0.08
    face[[37, 38, 43, 44], 1] -= 0.04
    face[[40, 41, 46, 47], 1] += 0.04
    face[62], face[66] = (0, 0.3), (0, 0.31)
    clip = np.repeat(face[None], FRAMES, 0)
    clip[4, 66, 1] += 0.2
    clip[8][[37, 38, 43, 44], 1] += 0.06
    return clip.astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    """Clips, and a folder of their landmarks as a detector found them; frame 2 has no face."""
    folder = make_training_clips(tmp_path_factory.mktemp("data"))
    clips = Clips(folder, 64)
    for seed, name in enumerate(NAMES):
        points = talking(seed)
        points[2] = np.nan
        queue = iter(torch.from_numpy((points + 1) * 63 / 2))

        def detector(images, queue=queue):
            assert images.shape[1:] == (3, 64, 64) and images.max() <= 1
            return torch.stack([next(queue) for _ in images])

        detector.name = "made up"
        assert find_landmarks(clips, name, detector, folder / "landmarks" / f"{name}.npz") == FRAMES - 1
    return folder, folder / "landmarks"


def test_landmarks_come_back_normalized_with_their_detectors_name(data):
    landmarks = Landmarks(data[1])
    points, features = landmarks.read("b1", FRAMES)
    expected = talking(3)
    assert np.isnan(points[2]).all() and landmarks.detector == "made up"
    np.testing.assert_allclose(np.delete(points, 2, 0), np.delete(expected, 2, 0), atol=1e-5)
    assert np.nanargmax(features[:, 0]) == 4 and np.nanargmin(features[:, 2]) == 8


def test_only_every_so_many_frames_are_searched(data, tmp_path):
    calls = []

    def detector(images):
        calls.append(len(images))
        return torch.zeros(len(images), 68, 2)

    detector.name = "zeros"
    assert find_landmarks(Clips(data[0], 64), "a1", detector, tmp_path / "a1.npz", every=5) == 3
    points, _ = Landmarks(tmp_path).read("a1", FRAMES)
    assert sum(calls) == 3 and np.flatnonzero(np.isfinite(points[:, 0, 0])).tolist() == [0, 5, 10]
    assert (points[::5] == -1).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_event_is_an_extreme_frame_against_another(seed):
    points = talking(0)
    features = expression(points)
    for feature, extremes in ((0, {4}), (2, {8})):
        shares = np.eye(3)[feature]
        pair = choose_pair(points, features, np.random.default_rng(seed), shares=shares, candidates=1)
        assert len(set(pair)) == 2
        if feature == 2:
            assert extremes & set(pair)
        order = np.argsort(features[:, feature])
        assert set(pair) & {order[0], order[-1]}


def test_events_have_their_share_in_either_direction_and_unknown_frames_none(data):
    points, features = Landmarks(data[1]).read("c1", FRAMES)
    rng = np.random.default_rng(0)
    pairs = [choose_pair(points, features, rng, shares=(0, 0, 0.5), candidates=1) for _ in range(2000)]
    assert not any(2 in pair for pair in pairs)
    blink = np.array([[n == 8 for n in pair] for pair in pairs]).mean(0)
    # Half of the pairs are events, and of the others two of eleven frames are chosen by chance.
    assert blink == pytest.approx(0.25 + 0.5 / 11, abs=0.04)


def test_of_candidates_the_most_different_is_taken(data):
    points, features = Landmarks(data[1]).read("a1", FRAMES)
    rng = np.random.default_rng(0)
    few, many = (
        np.mean([bool({4, 8} & {*choose_pair(points, features, rng, shares=[], candidates=n)}) for _ in range(500)])
        for n in (1, 12)
    )
    assert few < 0.45 and many > 0.8


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_guided_sample_is_a_function_of_seed_and_index(data, seed):
    clips, landmarks = Clips(data[0], 32), Landmarks(data[1])
    one, other = (GuidedPairs(clips, landmarks, seed=seed) for _ in range(2))
    expected = [one[i] for i in range(3)]
    for i in (2, 0, 1):
        assert all(torch.equal(a, b) for a, b in zip(other[i], expected[i], strict=True))
    whole = next(batches(one, 3, stop=3))
    assert [tuple(part.shape) for part in whole] == [(3, 3, 32, 32)] * 2 + [(3, 68, 2)] * 2


def test_points_go_where_the_image_goes():
    """Bumps of an image, and of the image moved, are at the landmarks and the landmarks moved."""
    landmarks = torch.from_numpy(talking(0)[:1])
    affine = torch.tensor([[0.9, -0.1, 0.05], [0.1, 0.9, -0.08]])
    image = region_weights(landmarks, (128, 128), gain=1.0)
    moved, points = move(image, landmarks, affine)
    again = region_weights(points, (128, 128), gain=1.0)

    def center(weights):
        grid = torch.linspace(-1, 1, 128)
        weights = weights[0, 0] - 1
        return torch.stack(((weights.sum(0) * grid).sum(), (weights.sum(1) * grid).sum())) / weights.sum()

    torch.testing.assert_close(center(moved), center(again), atol=0.01, rtol=0)
    assert (center(moved) - center(image)).norm() > 0.05


def test_mirroring_swaps_the_sides_and_twice_is_nothing():
    assert (MIRRORED[MIRRORED] == np.arange(68)).all()
    for right, left in (
        (0, 16),
        (17, 26),
        (31, 35),
        (36, 45),
        (37, 44),
        (41, 46),
        (48, 54),
        (60, 64),
        (67, 65),
        (8, 8),
    ):
        assert MIRRORED[right] == left


def test_missing_and_foreign_landmarks_are_named(data, tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder of \.npz files, found none; make them with prepare_clips"):
        Landmarks(tmp_path)
    landmarks = Landmarks(data[1])
    with pytest.raises(ValueError, match=r"has landmarks of shape \(12, 68, 2\), expected \(13, 68, 2\)"):
        landmarks.read("a1", 13)
    with pytest.raises(ValueError, match=r"nowhere\.npz: expected the landmarks of a clip"):
        landmarks.read("nowhere", 12)
    (tmp_path / "x.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"x\.npz: expected the landmarks of a clip"):
        Landmarks(tmp_path)
    with pytest.raises(ValueError, match="shares: expected"):
        GuidedPairs(Clips(data[0], 32), landmarks, shares=(0.5, 0.5, 0.5))
