"""Scores of evaluation: exact baselines, batches that do not matter, and samples that do not count."""

import gc
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from evaluate_depth import Truth, score
from evaluation_clips import ALL, IMAGES, STANDS, write_clips
from torch import Tensor

from depthaware import animate, transfer_motion
from depthaware.evaluation import (
    ClipReader,
    Evaluator,
    Pair,
    PairList,
    Result,
    Scorer,
    batches,
    cross_identity,
    evaluate,
    evaluate_to_folder,
    list_clips,
    same_identity,
    summarize,
)
from depthaware.media.image import to_uint8


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture
def reader(data) -> ClipReader:
    return ClipReader(data, 64)


@pytest.fixture
def pair_list(data, reader) -> PairList:
    return same_identity(reader, list_clips(data))


def test_perfect_is_perfect_and_copying_is_what_it_is(tiny_model, pair_list, reader):
    results = list(evaluate(tiny_model, pair_list.pairs, reader, metrics=ALL, extractors=STANDS))
    assert [result.pair for result in results] == pair_list.pairs and len(results) == 21
    for pair, (_, copy, perfect), _ in results:
        exact = dict(zip(ALL, perfect, strict=True))
        assert exact.pop("jitter") == 0 or math.isnan(dict(zip(ALL, perfect, strict=True))["jitter"])
        assert exact == dict(ssim=1, psnr=math.inf, l1=0, akd=0, aed=0, csim=1, prmse=0, aucon=1)
        source, driving = (reader.frame(pair.source_video, frame) for frame in (0, pair.driving_frame))
        assert copy[ALL.index("l1")] == pytest.approx((source - driving).abs().mean().item(), rel=1e-6)


def test_jitter_is_that_of_evenly_spaced_frames_without_the_ends_of_a_batch(tiny_model, reader):
    def copied(*frames: int) -> list[float]:
        pairs = [Pair("clip0", 0, "clip0", i) for i in frames]
        results = evaluate(tiny_model, pairs, reader, metrics=["jitter"], extractors=STANDS)
        return [result.scores[1][0] for result in results]

    extract = Scorer(["jitter"], extractors=STANDS).extract_features
    points = torch.cat([extract(reader.frame("clip0", i)).features["landmarks"] for i in range(1, 6)]).double().numpy()
    expected = np.linalg.norm(np.diff(points, n=2, axis=0), axis=2).mean(1)  # a copied source stands still
    np.testing.assert_allclose(copied(1, 2, 3, 4, 5), [np.nan, *expected, np.nan], rtol=1e-3)
    assert np.isnan(copied(1, 2, 3, 5)).all()


def test_the_model_is_scored_by_its_prediction(tiny_model, pair_list, reader):
    results = list(evaluate(tiny_model, pair_list.pairs, reader, metrics=["l1"], batch_size=3))
    for pair, (model, _, _), _ in results[::5]:
        source, driving = (reader.frame(pair.source_video, frame) for frame in (0, pair.driving_frame))
        with torch.no_grad():
            prediction = tiny_model(source, driving).prediction
        assert model[0] == pytest.approx((prediction - driving).abs().mean().item(), rel=1e-4)


def test_another_person_has_no_truth_but_a_source_and_a_pose(tiny_model, data, reader):
    pair_list = cross_identity(reader, list_clips(data), every=2)
    assert all(not pair.has_truth for pair in pair_list.pairs) and {pair.driving_video for pair in pair_list.pairs} == {
        f"clip{i}" for i in range(4)
    }
    for result in evaluate(tiny_model, pair_list.pairs, reader, metrics=ALL, extractors=STANDS):
        model, copy, perfect = (dict(zip(ALL, scores, strict=True)) for scores in result.scores)
        for name in (*IMAGES, "akd", "aed"):
            assert math.isnan(model[name]) and math.isnan(copy[name]) and math.isnan(perfect[name])
        assert (copy["csim"], perfect["prmse"], perfect["aucon"]) == (1, 0, 1)
        assert copy["prmse"] > 0 and perfect["csim"] < 1


def test_each_source_frame_counts_not_each_source_clip(tiny_model, reader):
    """Encodings and features of a source are kept from batch to batch."""
    pairs = [Pair("clip0", frame, "clip0", 4) for frame in (0, 2)]
    for pair, (_, copy, _), _ in evaluate(tiny_model, pairs, reader, metrics=["l1"], batch_size=1):
        source, driving = (reader.frame("clip0", frame) for frame in (pair.source_frame, 4))
        assert copy[0] == pytest.approx((source - driving).abs().mean().item(), rel=1e-6)


def test_extractors_get_256_pixels_whatever_the_size_of_the_model(tiny_model, pair_list, reader):
    sizes = set()

    def extract(images: Tensor) -> Tensor:
        sizes.add(tuple(images.shape[1:]))
        return STANDS["landmarks"](images)

    list(evaluate(tiny_model, pair_list.pairs[:3], reader, metrics=["akd"], extractors={"landmarks": extract}))
    assert reader.size == 64 and sizes == {(3, 256, 256)}


def test_relative_motion_is_that_of_animate(tiny_model, reader):
    evaluator = Evaluator(tiny_model, reader, Scorer(["l1"]))
    source, initial, driving = (reader.frame(name, i) for name, i in (("clip0", 0), ("clip1", 2), ("clip1", 4)))
    animated = list(animate(tiny_model, source, [initial, driving]))
    for frame, expected in zip((2, 4), animated, strict=True):
        found = to_uint8(evaluator.predict(Pair("clip0", 0, "clip1", frame, 2)).prediction)[0]
        assert abs(found.astype(int) - expected.image).max() <= 1


@torch.inference_mode()
def test_relative_motion_is_relative_to_the_initial_frame(tiny_model, reader, monkeypatch):
    """By the key points, which tell frames apart even where a random generator hardly does."""
    drive, found = tiny_model.drive, []
    monkeypatch.setattr(
        tiny_model, "drive", lambda source, keypoints: (found.append(keypoints), drive(source, keypoints))[1]
    )
    evaluator = Evaluator(tiny_model, reader, Scorer(["l1"]))
    source, driving = (tiny_model.detect_keypoints(reader.frame(name, i)) for name, i in (("clip0", 0), ("clip1", 4)))
    for initial in (0, 2):
        evaluator.predict(Pair("clip0", 0, "clip1", 4, initial))
        reference = tiny_model.detect_keypoints(reader.frame("clip1", initial))
        torch.testing.assert_close(found[-1], transfer_motion(source, driving, reference), atol=1e-6, rtol=1e-5)
    assert (found[0].value - found[1].value).abs().max() > 1e-4


def test_neither_order_nor_batches_change_the_means(tiny_model, data, pair_list, reader):
    pairs = pair_list.pairs + cross_identity(reader, list_clips(data), every=3).pairs
    shuffled = random.Random(0).sample(pairs, len(pairs))
    tables = []
    for order, size in ((pairs, 8), (pairs, 1), (shuffled, 4)):
        summary = summarize(evaluate(tiny_model, order, reader, metrics=IMAGES, batch_size=size), IMAGES)
        tables.append([score.mean for score in summary.scores] + [score.high for score in summary.scores])
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-4)
    np.testing.assert_allclose(tables[2], tables[0], rtol=1e-4)


def test_batches_are_a_partition_in_which_sources_are_one_or_all_their_own():
    rng = random.Random(0)
    for _ in range(50):
        pairs = [
            Pair(rng.choice("ab"), rng.choice((0, 0, 1)), rng.choice("ab"), i) for i in range(rng.randrange(1, 30))
        ]
        cut = list(batches(pairs, 4))
        assert sorted(i for batch in cut for i in batch) == list(range(len(pairs)))
        assert all(len(batch) <= 4 and len({pairs[i].has_truth for i in batch}) == 1 for batch in cut)
    one_source = [Pair("a", 0, "a", i) for i in range(9)]
    assert [len(batch) for batch in batches(one_source, 4)] == [4, 4, 1]


def test_means_are_over_pairs_and_intervals_over_videos(tiny_model, pair_list, reader):
    results = list(evaluate(tiny_model, pair_list.pairs, reader, metrics=["l1"]))
    summary = summarize(results, ["l1"])
    model, copy, perfect, difference = summary.scores
    l1 = {(r.pair.driving_video, r.pair.driving_frame): r.scores for r in results}
    assert model.mean == pytest.approx(np.mean([scores[0][0] for scores in l1.values()]))
    videos = [
        np.mean([s[1][0] for (name, _), s in l1.items() if name == video])
        for video in ("clip0", "clip1", "clip2", "clip3")
    ]
    assert copy.mean_of_videos == pytest.approx(np.mean(videos)) and min(videos) <= copy.low <= copy.high <= max(videos)
    assert difference.mean_of_videos == pytest.approx(model.mean_of_videos - copy.mean_of_videos)
    assert (perfect.low, perfect.high, perfect.pairs, perfect.skipped) == (0, 0, 21, 0)


def test_losing_the_face_on_hard_frames_gains_nothing_on_copy():
    easy, hard = (Result(Pair("v", 0, "v", i), ((x,), (y,), (0,))) for i, (x, y) in enumerate([(2, 3), (math.nan, 9)]))
    *_, difference = summarize([easy, hard], ["akd"]).scores
    assert difference[:4] == ("akd", "model - copy", -1, -1) and difference[6:] == (1, 1)
    same = Result(Pair("v", 0, "v", 0), ((math.inf,), (math.inf,), (math.inf,)))
    assert math.isnan(summarize([same], ["psnr"]).scores[-1].mean)


def test_all_names_of_a_clip_mean_one_video(tiny_model, data, reader):
    names = [
        ("clip1", "test/clip1.mp4"),
        ("clip1.mp4", "clip1"),
        ("clip1", "clip2"),
        ("clip3", "clip3.mp4"),
        ("no", "clip1"),
    ]
    pairs = [Pair(source, 0, driving, i) for i, (source, driving) in enumerate(names)]
    results = {r.pair.driving_frame: r for r in evaluate(tiny_model, pairs, reader, metrics=["l1"])}
    assert [results[i].pair.has_truth for i in range(5)] == [True, True, False, True, False]
    assert [math.isnan(results[i].scores[0][0]) for i in range(4)] == [False, False, True, False]
    assert summarize(results.values(), ["l1"]).videos == 3


def test_a_frame_without_a_face_is_skipped_and_counted(tiny_model, tmp_path):
    dark = [np.zeros((64, 64, 3), np.uint8)] * 2
    make_clip(tmp_path / "a.mp4", 5, (64, 64), images=[draw_image(size=(64, 64))] * 3 + dark)
    reader = ClipReader(tmp_path, 64)
    pairs = same_identity(reader, list_clips(tmp_path)).pairs
    summary = summarize(evaluate(tiny_model, pairs, reader, metrics=["l1", "akd"], extractors=STANDS), ["l1", "akd"])
    found = {(score.metric, score.prediction): (score.pairs, score.skipped) for score in summary.scores}
    assert found["l1", "copy"] == (4, 0)
    assert found["akd", "copy"] == found["akd", "perfect"] == (2, 2)


def test_a_prediction_that_is_not_finite_is_a_failure_and_in_no_mean(tiny_model, pair_list, reader, monkeypatch):
    clean = summarize(evaluate(tiny_model, pair_list.pairs[1:], reader, metrics=IMAGES), IMAGES)
    drive = tiny_model.drive

    def broken(source, keypoints):
        prediction = drive(source, keypoints)
        prediction[:1] *= torch.nan if len(prediction) == 6 else 1  # the first frame of clip0 and of clip3
        return prediction

    monkeypatch.setattr(tiny_model, "drive", broken)
    results = list(evaluate(tiny_model, pair_list.pairs, reader, metrics=IMAGES))
    assert [r.pair.driving_video for r in results if r.failure] == ["clip0", "clip3"]
    summary = summarize(results, IMAGES)
    assert (summary.pairs, summary.failed, summary.failures) == (19, 2, (("the prediction is not finite", 2),))
    assert all(math.isfinite(score.mean_of_videos) for score in summary.scores if score.metric == "l1")
    assert clean.pairs == 20
    with pytest.raises(ValueError, match="clip0 frame 0, driven by clip0 frame 1: the prediction is not finite"):
        list(evaluate(tiny_model, pair_list.pairs, reader, metrics=IMAGES, strict=True))


def test_depth_that_is_not_finite_is_refused_and_not_left_out():
    truth = Truth(torch.zeros(3, 3, 8, 8), torch.rand(3, 1, 8, 8) + 1, torch.ones(3, 1, 8, 8, dtype=torch.bool))
    depth = truth.depth.clone()
    depth[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^depth: 1 of 3 predicted maps are not finite, expected none$"):
        score([depth], [truth])


class Endless:
    """In the place of a `ClipReader`: any number of clips, none of them on disk."""

    size, fit, folder = 64, "crop", Path("endless")

    def find(self, name: str) -> Path:
        return self.folder / name

    def frame(self, name: str, which: int) -> Tensor:
        return torch.full((1, 3, 64, 64), (int(name) + which) % 100 / 100)


def bytes_alive() -> int:
    gc.collect()
    tensors = [t for t in gc.get_objects() if type(t) in (Tensor, torch.nn.Parameter)]
    return sum(t.untyped_storage().nbytes() for t in tensors if t.layout == torch.strided)


def test_memory_does_not_grow_with_the_number_of_pairs(tiny_model):
    pairs = [Pair(str(i), 0, str(i), 1) for i in range(96)]
    results = evaluate(tiny_model, pairs, Endless(), metrics=["l1", "csim"], extractors=STANDS)  # type: ignore[arg-type]
    alive = [bytes_alive() for i, _ in enumerate(results) if i in (23, 95)]
    assert alive[1] <= alive[0] + 1000


def test_a_recipe_needs_four_lines(tiny_model, data, tmp_path):
    reader = ClipReader(data, tiny_model.image_size)
    pair_list = same_identity(reader, list_clips(data), every=3)
    summary = summarize(evaluate(tiny_model, pair_list.pairs, reader, metrics=["l1"]), ["l1"])
    assert summary.scores[0].mean > 0
    saved = evaluate_to_folder(tiny_model, pair_list, reader, tmp_path / "r", metrics=["l1"])
    assert saved.summary.scores[0].mean == pytest.approx(summary.scores[0].mean, rel=1e-6)
