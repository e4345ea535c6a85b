"""Evaluation: exact baselines, reports that outlive anything, and bad data."""

import csv
import gc
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip, picture
from evaluate_depth import Truth, score
from torch import Tensor

from depthaware import DaGAN, animate, extractors
from depthaware.cli.common import progress
from depthaware.cli.main import main
from depthaware.evaluation import (
    BUNDLED,
    METRICS,
    Clip,
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
    read_pairs,
    same_identity,
    sheet,
    summarize,
)
from depthaware.evaluation.results_log import Row, open_report
from depthaware.media.image import fit_square, read_image, to_uint8, write_image
from depthaware.media.video import read_video
from depthaware.metrics import bootstrap_interval

IMAGES = ("ssim", "psnr", "l1")


class Stand:
    """In the place of a detector: some linear features of the picture; no face where the picture is dark."""

    def __init__(self, *shape: int, binary: bool = False) -> None:
        self.name, self.shape, self.binary = f"stand-in {shape}", shape, binary

    def __call__(self, images: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, 3 * images.shape[-1] * math.prod(self.shape))
        features = images.mean(2).flatten(1).cpu() @ torch.cos(97 * grid).view(-1, math.prod(self.shape))
        features = (features > 0).float() if self.binary else features
        features[images.mean((1, 2, 3)).cpu() < 0.2] = torch.nan
        return features.view(-1, *self.shape)


STANDS = {"landmarks": Stand(68, 2), "identity": Stand(16), "pose": Stand(3), "action-units": Stand(5, binary=True)}
ALL = tuple(name for name in METRICS if name not in ("ms_ssim", "lpips"))


@pytest.fixture(autouse=True)
def stand_ins(request, monkeypatch):
    if "real_detectors" not in request.node.name:
        monkeypatch.setattr(extractors, "load", lambda kind, name=None, device="cpu": STANDS[kind])


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Intervals and contact sheets are not redrawn a hundred times at full length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("depthaware.evaluation.report.bootstrap_interval", partial(bootstrap_interval, draws=50))
        patch.setattr("depthaware.evaluation.sheet._ROWS", 1)
        yield


def noise_clip(path: Path, frames: int, seed: int, size: tuple[int, int] = (64, 64), light: float = 1) -> Path:
    """A clip in which everything moves."""
    cells = np.random.default_rng(seed).integers(0, int(255 * light), (frames, 4, 4, 3), "u1")
    return make_clip(
        path, frames, size, images=[picture(i, size) // 2 + np.resize(cells[i], (*size, 3)) // 2 for i in range(frames)]
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four clips of three persons, one of frames, one of another size; the manifest also names a training clip."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "test").mkdir()
    for i, frames in enumerate((7, 5, 6)):
        noise_clip(folder / "test" / f"clip{i}.mp4", frames, i, (64, 64) if i else (48, 80))
    (folder / "clip3").mkdir()
    for i, frame in enumerate(read_video(folder / "test" / "clip0.mp4")):
        write_image(folder / "clip3" / f"f_{i + 8}.png", 255 - frame.image)
    rows = [f"clip{i},clip,test,person{i % 3}" for i in range(4)] + ["other,clip,train,x", "face,portrait,test,y"]
    (folder / "manifest.csv").write_text("\n".join(["name,kind,split,identity", *rows]) + "\n")
    return folder


@pytest.fixture
def footage(data) -> ClipReader:
    return ClipReader(data, 64)


@pytest.fixture
def plan(data, footage) -> PairList:
    return same_identity(footage, list_clips(data))


def run(data: Path, weights: str, output: str | Path = "report", *options: str, protocol: str = "same-identity") -> int:
    given = ["--weights", weights, "--data", str(data), "--protocol", protocol, "--output", str(output)]
    return main(["evaluate", *given, *options])


def report(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in ("pairs.csv", "report.json", "report.md", "sheet.png")}


# The numbers


def test_perfect_is_perfect_and_copying_is_what_it_is(tiny_model, plan, footage):
    results = list(evaluate(tiny_model, plan.pairs, footage, metrics=ALL, extractors=STANDS))
    assert [result.pair for result in results] == plan.pairs and len(results) == 21
    for pair, (_, copy, perfect), _ in results:
        exact = dict(zip(ALL, perfect, strict=True))
        assert exact.pop("jitter") == 0 or math.isnan(dict(zip(ALL, perfect, strict=True))["jitter"])
        assert exact == dict(ssim=1, psnr=math.inf, l1=0, akd=0, aed=0, csim=1, prmse=0, aucon=1)
        source, driving = (footage.frame(pair.source_video, frame) for frame in (0, pair.driving_frame))
        assert copy[ALL.index("l1")] == pytest.approx((source - driving).abs().mean().item(), rel=1e-6)


def test_jitter_is_that_of_evenly_spaced_frames_without_the_ends_of_a_batch(tiny_model, footage):
    def copied(*frames: int) -> list[float]:
        pairs = [Pair("clip0", 0, "clip0", i) for i in frames]
        results = evaluate(tiny_model, pairs, footage, metrics=["jitter"], extractors=STANDS)
        return [result.scores[1][0] for result in results]

    look = Scorer(["jitter"], extractors=STANDS).look
    points = torch.cat([look(footage.frame("clip0", i)).features["landmarks"] for i in range(1, 6)]).double().numpy()
    expected = np.linalg.norm(np.diff(points, n=2, axis=0), axis=2).mean(1)  # a copied source stands still
    np.testing.assert_allclose(copied(1, 2, 3, 4, 5), [np.nan, *expected, np.nan], rtol=1e-3)
    assert np.isnan(copied(1, 2, 3, 5)).all()


def test_the_model_is_scored_by_what_it_draws(tiny_model, plan, footage):
    results = list(evaluate(tiny_model, plan.pairs, footage, metrics=["l1"], batch_size=3))
    for pair, (model, _, _), _ in results[::5]:
        source, driving = (footage.frame(pair.source_video, frame) for frame in (0, pair.driving_frame))
        with torch.no_grad():
            drawn = tiny_model(source, driving).prediction
        assert model[0] == pytest.approx((drawn - driving).abs().mean().item(), rel=1e-4)


def test_another_person_has_no_truth_but_a_source_and_a_pose(tiny_model, data, footage):
    plan = cross_identity(footage, list_clips(data), every=2)
    assert all(not pair.has_truth for pair in plan.pairs) and {pair.driving_video for pair in plan.pairs} == {
        f"clip{i}" for i in range(4)
    }
    for result in evaluate(tiny_model, plan.pairs, footage, metrics=ALL, extractors=STANDS):
        model, copy, perfect = (dict(zip(ALL, scores, strict=True)) for scores in result.scores)
        for name in (*IMAGES, "akd", "aed"):
            assert math.isnan(model[name]) and math.isnan(copy[name]) and math.isnan(perfect[name])
        assert (copy["csim"], perfect["prmse"], perfect["aucon"]) == (1, 0, 1)
        assert copy["prmse"] > 0 and perfect["csim"] < 1


def test_relative_motion_is_that_of_animate(tiny_model, footage):
    evaluator = Evaluator(tiny_model, footage, Scorer(["l1"]))
    source, initial, driving = (footage.frame(name, i) for name, i in (("clip0", 0), ("clip1", 2), ("clip1", 4)))
    animated = list(animate(tiny_model, source, [initial, driving]))
    for frame, expected in zip((2, 4), animated, strict=True):
        drawn = to_uint8(evaluator.draw(Pair("clip0", 0, "clip1", frame, 2)).prediction)[0]
        assert abs(drawn.astype(int) - expected.image).max() <= 1


def test_pairings_depend_on_the_seed_alone_and_join_different_persons(data, footage):
    clips = list_clips(data)
    persons = dict(clips)
    plans = [cross_identity(footage, clips, sources_per_clip=2, seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert all(persons[pair.source_video] != persons[pair.driving_video] for pair in plans[0].pairs)


def test_neither_order_nor_batches_change_the_means(tiny_model, data, plan, footage):
    pairs = plan.pairs + cross_identity(footage, list_clips(data), every=3).pairs
    shuffled = random.Random(0).sample(pairs, len(pairs))
    tables = []
    for order, size in ((pairs, 8), (pairs, 1), (shuffled, 4)):
        summary = summarize(evaluate(tiny_model, order, footage, metrics=IMAGES, batch_size=size), IMAGES)
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


def test_means_are_over_pairs_and_intervals_over_videos(tiny_model, plan, footage):
    results = list(evaluate(tiny_model, plan.pairs, footage, metrics=["l1"]))
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
    assert difference == ("akd", "model - copy", -1, -1, -1, -1, 1, 1)
    same = Result(Pair("v", 0, "v", 0), ((math.inf,), (math.inf,), (math.inf,)))
    assert math.isnan(summarize([same], ["psnr"]).scores[-1].mean)


def test_all_names_of_a_clip_mean_one_video(tiny_model, data, footage):
    names = [
        ("clip1", "test/clip1.mp4"),
        ("clip1.mp4", "clip1"),
        ("clip1", "clip2"),
        ("clip3", "clip3.mp4"),
        ("no", "clip1"),
    ]
    pairs = [Pair(source, 0, driving, i) for i, (source, driving) in enumerate(names)]
    results = {r.pair.driving_frame: r for r in evaluate(tiny_model, pairs, footage, metrics=["l1"])}
    assert [results[i].pair.has_truth for i in range(5)] == [True, True, False, True, False]
    assert [math.isnan(results[i].scores[0][0]) for i in range(4)] == [False, False, True, False]
    assert summarize(results.values(), ["l1"]).videos == 3


def test_a_frame_without_a_face_is_skipped_and_counted(tiny_model, tmp_path):
    dark = [np.zeros((64, 64, 3), np.uint8)] * 2
    make_clip(tmp_path / "a.mp4", 5, (64, 64), images=[picture(size=(64, 64))] * 3 + dark)
    footage = ClipReader(tmp_path, 64)
    pairs = same_identity(footage, list_clips(tmp_path)).pairs
    summary = summarize(evaluate(tiny_model, pairs, footage, metrics=["l1", "akd"], extractors=STANDS), ["l1", "akd"])
    found = {(score.metric, score.prediction): (score.pairs, score.skipped) for score in summary.scores}
    assert found["l1", "copy"] == (4, 0)
    assert found["akd", "copy"] == found["akd", "perfect"] == (2, 2)


def test_a_prediction_that_is_not_finite_is_a_failure_and_in_no_mean(tiny_model, plan, footage, monkeypatch):
    clean = summarize(evaluate(tiny_model, plan.pairs[1:], footage, metrics=IMAGES), IMAGES)
    drive = tiny_model.drive

    def broken(source, keypoints):
        prediction = drive(source, keypoints)
        prediction[:1] *= torch.nan if len(prediction) == 6 else 1  # the first frame of clip0 and of clip3
        return prediction

    monkeypatch.setattr(tiny_model, "drive", broken)
    results = list(evaluate(tiny_model, plan.pairs, footage, metrics=IMAGES))
    assert [r.pair.driving_video for r in results if r.failure] == ["clip0", "clip3"]
    summary = summarize(results, IMAGES)
    assert (summary.pairs, summary.failed, summary.failures) == (19, 2, (("the prediction is not finite", 2),))
    assert all(math.isfinite(score.mean_of_videos) for score in summary.scores if score.metric == "l1")
    assert clean.pairs == 20
    with pytest.raises(ValueError, match="clip0 frame 0, driven by clip0 frame 1: the prediction is not finite"):
        list(evaluate(tiny_model, plan.pairs, footage, metrics=IMAGES, strict=True))


def test_the_real_detectors_find_the_bundled_face(tiny_weights, tmp_path, capsys):
    pytest.importorskip("dlib")
    media = Path(sys.modules["depthaware"].__file__).parent / "assets"
    (tmp_path / "clips").mkdir()
    shutil.copy(media / "driving.mp4", tmp_path / "clips")
    assert run(tmp_path / "clips", tiny_weights, tmp_path / "r", "--limit", "2") == 0
    scores = {(s["metric"], s["prediction"]): s for s in json.loads((tmp_path / "r/report.json").read_text())["scores"]}
    assert {metric for metric, _ in scores} == {*IMAGES, "akd", "aed", "csim", "prmse"}
    assert scores["akd", "perfect"]["mean"] == 0 and scores["csim", "perfect"]["mean"] == 1
    assert scores["akd", "copy"]["pairs"] == 2 and 0 < scores["akd", "copy"]["mean"] < 60


# The folder


def test_the_report_has_everything(data, tiny_weights, tmp_path, capsys):
    assert run(data, tiny_weights, tmp_path / "r") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r'}: 21 pairs of 4 driving videos, 0 failed\n"
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["options.json", *sorted(report(tmp_path / "r"))]
    rows = list(csv.DictReader((tmp_path / "r/pairs.csv").open()))
    assert [int(row["pair"]) for row in rows] == list(range(21))
    content = json.loads((tmp_path / "r/report.json").read_text())
    mean = next(s["mean"] for s in content["scores"] if (s["metric"], s["prediction"]) == ("l1", "model"))
    assert mean == pytest.approx(np.mean([float(row["model_l1"]) for row in rows]))
    assert next(s["mean"] for s in content["scores"] if (s["metric"], s["prediction"]) == ("psnr", "perfect")) == "inf"
    text = (tmp_path / "r/report.md").read_text()
    assert "| | SSIM ↑ | PSNR ↑ | L1 ↓ | AKD ↓ | AED ↓ | CSIM ↑ | PRMSE ↓ |" in text
    assert "| perfect | 1 | ∞ | 0 | 0 | 0 | 1 | 0 |" in text
    assert str(tmp_path) not in text and str(data) not in text
    height, width, _ = read_image(tmp_path / "r/sheet.png").shape
    assert width == 4 * 166 and height > 3 * 160  # best, median, worst


@pytest.mark.parametrize("metric, best", [("l1", 0), ("ssim", 29)])
def test_the_sheet_shows_both_ends_and_the_middle_of_other_videos(monkeypatch, metric, best):
    monkeypatch.setattr(sheet, "_ROWS", 3)
    order = random.Random(0).sample(range(30), 30)
    scores = [(float(value),) for value in order]
    rows = [Row(i, Result(Pair(f"v{i % 5}", 0, f"v{i % 5}", i), (scores[i],) * 3)) for i in range(30)]
    failed = Row(30, Result(Pair("v", 0, "v", 1), (), "damaged"))
    measure, extremes = sheet.find_extremes([*rows, failed], [metric])
    assert measure == METRICS[metric]
    assert [extreme.label for extreme in extremes] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert (extremes[0].value, extremes[6].value) == (best, 29 - best) and extremes[3].value in (14, 15)
    assert all(order[extreme.number] == extreme.value for extreme in extremes)
    for three in (extremes[:3], extremes[3:6], extremes[6:]):
        assert len({extreme.number % 5 for extreme in three}) == 3


def test_doing_it_again_does_nothing_again(data, tiny_weights, tmp_path, monkeypatch, capsys):
    run(data, tiny_weights, tmp_path / "r")
    before = report(tmp_path / "r")
    monkeypatch.setattr("depthaware.evaluation.run.Evaluator.__call__", None)
    assert run(data, tiny_weights, tmp_path / "r") == 0
    assert report(tmp_path / "r") == before


SMALL = ("--metrics", "l1,psnr,ssim", "--batch-size", "2")


@pytest.fixture(scope="module")
def whole(data, tiny_weights, tmp_path_factory) -> dict[str, bytes]:
    """The report of one undisturbed process."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(data, tiny_weights, folder, *SMALL) == 0
    return report(folder)


@pytest.mark.parametrize("cut", [1, 300, 900])
def test_a_journal_cut_anywhere_is_completed_to_the_same_report(data, tiny_weights, tmp_path, whole, cut):
    run(data, tiny_weights, tmp_path / "r", *SMALL)
    for name in whole.keys() - {"pairs.csv"}:
        (tmp_path / "r" / name).unlink()
    os.truncate(tmp_path / "r/pairs.csv", cut)
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


def test_what_must_be_the_same_to_go_on_survives_a_power_cut(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), fsync(handle)))
    open_report(tmp_path / "r", {"name": "model"})
    assert {path.stat().st_ino for path in (tmp_path / "r/options.json", tmp_path / "r", tmp_path)} <= synced


def start(data: Path, weights: str, output: Path, **popen) -> subprocess.Popen:
    given = ["--weights", weights, "--data", str(data), "--protocol", "same-identity", "--output", str(output)]
    line = [sys.executable, "-m", "depthaware.cli", "evaluate", *given, *SMALL]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **popen)


def test_kill_9_and_going_on_give_the_same_report(data, tiny_weights, tmp_path, whole):
    process, pairs, deadline = (
        start(data, tiny_weights, tmp_path / "r"),
        tmp_path / "r/pairs.csv",
        time.monotonic() + 300,
    )
    while not (pairs.exists() and pairs.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 3 < pairs.read_bytes().count(b"\n") < 22 and not (tmp_path / "r/report.json").exists()
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


def test_full_disk_says_so_and_can_be_gone_on_with(data, tiny_weights, tmp_path, whole):
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1500, 1500))
    process = start(data, tiny_weights, tmp_path / "r", preexec_fn=limit)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err == f"depthaware: error: {tmp_path / 'r/pairs.csv'}: File too large\n"
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


@pytest.mark.parametrize("world, order", [(3, (2, 0, 1)), (2, (1, None))])
def test_shards_are_the_whole_and_one_process_ends_what_is_missing(
    data, tiny_weights, tmp_path, whole, monkeypatch, capsys, world, order
):
    for rank in order:
        assert not (tmp_path / "r/report.json").exists()
        for name, value in (("WORLD_SIZE", world), ("RANK", rank)):
            monkeypatch.setenv(name, str(value)) if rank is not None else monkeypatch.delenv(name)
        assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole
    assert "of 21 pairs are done, the rest is for other processes" in capsys.readouterr().out


def test_a_report_of_something_else_is_left_alone(data, tiny_weights, tmp_path, capsys):
    run(data, tiny_weights, tmp_path / "r", "--every", "2")
    DaGAN(**json.loads((Path(tiny_weights) / "config.json").read_text())).save_pretrained(tmp_path / "tiny")
    before = report(tmp_path / "r")
    for weights, options, what in (
        (tiny_weights, [], "every 2, not 1"),
        (tiny_weights, ["--every", "2", "--metrics", "l1"], 'metrics ["ssim", "ps..., not ["l1"]'),
        (str(tmp_path / "tiny"), ["--every", "2"], "weights "),
    ):
        capsys.readouterr()
        assert run(data, weights, tmp_path / "r", *options) == 2
        error = capsys.readouterr().err
        assert f"output '{tmp_path / 'r'}': was begun with {what}" in error and error.count("\n") == 1
        assert error.endswith("expected the same or another folder\n")
    assert report(tmp_path / "r") == before


class Endless:
    """A footage of any number of clips that no disk has to hold."""

    size, fit, folder = 64, "crop", Path("endless")

    def find(self, name: str) -> Path:
        return self.folder / name

    def frame(self, name: str, which: int) -> Tensor:
        return torch.full((1, 3, 64, 64), (int(name) + which) % 100 / 100)


def bytes_alive() -> int:
    gc.collect()
    return sum(t.untyped_storage().nbytes() for t in gc.get_objects() if type(t) in (Tensor, torch.nn.Parameter))


def test_memory_does_not_grow_with_the_number_of_pairs(tiny_model):
    pairs = [Pair(str(i), 0, str(i), 1) for i in range(96)]
    results = evaluate(tiny_model, pairs, Endless(), metrics=["l1", "csim"], extractors=STANDS)  # type: ignore[arg-type]
    alive = [bytes_alive() for i, _ in enumerate(results) if i in (23, 95)]
    assert alive[1] <= alive[0] + 1000


# What can be wrong


def test_bundled_lists_are_whole():
    same, cross, best, celebv = (read_pairs(name) for name in BUNDLED)
    assert [len(pairs) for pairs in (same, cross, best, celebv)] == [2083] * 4
    assert all(pair.has_truth for pair in same) and not any(pair.has_truth for pair in cross + celebv)
    assert [pair[:4] for pair in cross] == [pair[:4] for pair in best]
    assert {pair.initial_frame for pair in cross} == {0} and best[0].initial_frame == 53
    assert celebv[0].source_frame == "P_Trump_64689.jpg_0000054394.jpg"


def test_frames_are_found_by_number_and_by_name(data, footage):
    frames = [frame.image for frame in read_video(data / "test/clip1.mp4")]
    for name, which in (("clip1", 4), ("clip1.mp4", 2), ("test/clip1.mp4", 3), ("clip1", 0)):
        torch.testing.assert_close(footage.frame(name, which), fit_square(frames[int(which)], 64))
    assert torch.equal(footage.frame("clip3", "f_9.png"), footage.frame("clip3", 1))
    assert torch.equal(footage.frame("clip3", "f_10"), footage.frame("clip3.mp4", 2))


def test_clips_without_a_manifest_are_persons_of_their_own(tmp_path):
    for name in ("id1#a.mp4", "id1#b.mp4", "c.mp4", ".hidden.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/1.png").touch()
    assert list_clips(tmp_path) == [
        Clip("c.mp4", "c.mp4"),
        Clip("frames", "frames"),
        Clip("id1#a.mp4", "id1"),
        Clip("id1#b.mp4", "id1"),
    ]


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> Path:
    """Good clips and bad ones in "mixed", and much else that is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("mixed", "mixed/shots", "empty", "alone", "single", "listed", "split", "binary"):
        (folder / name).mkdir()
    noise_clip(folder / "mixed/good.mp4", 4, 0)
    noise_clip(folder / "mixed/wide.mp4", 4, 1, (48, 96))
    make_clip(folder / "mixed/one.mp4", 1)
    (folder / "mixed/text.mp4").write_text("I am no video.\n" * 100)
    for i in range(3):
        write_image(folder / f"mixed/shots/{i}.png", picture(i))
    os.truncate(folder / "mixed/shots/2.png", 100)
    shutil.copy(folder / "mixed/one.mp4", folder / "alone")
    shutil.copy(folder / "mixed/good.mp4", folder / "single")
    (folder / "listed/manifest.csv").write_text("name,kind,split\n")
    (folder / "split/manifest.csv").write_text("name,kind,split,identity\na,clip,train,b\n")
    (folder / "binary/manifest.csv").write_text("name,kind,split,identity\n" + "x" * 200_000)
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.fixture
def mixed(bad_files, tmp_path, monkeypatch) -> Path:
    """A current folder with all that, of its own."""
    shutil.copytree(bad_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("mixed")


HEADER = "source_video,source_frame,driving_video,driving_frame"
TABLES = {
    "empty": "",
    "header": HEADER,
    "columns": "a,b\n",
    "short": f"{HEADER}\na,1,b,2\na,1,b\n",
    "blank": f"{HEADER}\na,,b,2\n",
    "absent": f"{HEADER}\nnobody,1,good,2\n",
}
BAD_CLIPS = {
    "one.mp4: has 1 frame, expected at least 2": None,
    "text.mp4: damaged, cut short, or neither an image nor a video that can be read": None,
    "shots/2.png: damaged, cut short, or neither an image nor a video that can be read": 1,
}


def test_bad_clips_among_good_ones_are_counted_with_their_reasons(mixed, tiny_weights, capsys):
    assert run(mixed, tiny_weights, "r") == 0
    assert capsys.readouterr().out == "r: 7 pairs of 3 driving videos, 1 failed\n"
    content = json.loads(Path("r/report.json").read_text())
    assert (content["pairs_scored"], content["pairs_failed"]) == (7, 1)
    found = {clip["reason"]: None for clip in content["failed_clips"]}
    assert found | {pair["reason"]: pair["pairs"] for pair in content["failed_pairs"]} == BAD_CLIPS
    assert all(reason in Path("r/report.md").read_text() for reason in BAD_CLIPS)


def test_pairs_of_absent_videos_and_frames_are_counted(mixed, tiny_weights, capsys):
    lines = ["good,0,good,1", "absent,0,good,1", "good,0,gone.mp4,3", "good,0,good,99", "good,face.png,good,1"]
    Path("p.csv").write_text("\n".join(["source_video,source_frame,driving_video,driving_frame", *lines]))
    assert run(mixed, tiny_weights, "r", protocol="p.csv") == 0
    failed = {entry["reason"] for entry in json.loads(Path("r/report.json").read_text())["failed_pairs"]}
    assert failed == {
        "absent: expected one clip or folder of frames of that name, found none",
        "gone.mp4: expected one clip or folder of frames of that name, found none",
        "good.mp4: has 4 frames, expected one of number 99",
        "good.mp4: is a video, expected the number of a frame, got 'face.png'",
    }


WRONG = {
    "--strict": "one.mp4: has 1 frame, expected at least 2",
    "--data absent": "data 'absent': expected a folder with clips or folders of frames",
    "--data empty": "data 'empty': found no clips (.mp4, .mov, .webm, .mkv, .avi, .gif) and no folders of frames",
    "--data alone": "data 'alone': no clip gives a pair: one.mp4: has 1 frame, expected at least 2",
    "--data alone --protocol cross-identity": "data 'alone': no clip gives a pair: one.mp4: has 1 frame, "
    "expected at least 2",
    "--data single --protocol cross-identity": "cross-identity: expected clips of at least 2 identities, "
    "all are of 'good.mp4'",
    "--data listed": "listed/manifest.csv: expected the columns name, kind, split, identity, found no identity",
    "--data split": "split/manifest.csv: has no clips of split 'test', found train",
    "--data binary": "binary/manifest.csv: is not a CSV file (field larger than field limit (131072))",
    "--protocol none.csv": "none.csv: No such file or directory",
    "--protocol empty.csv": f"empty.csv line 1: expected the columns {HEADER}[,initial_frame], got []",
    "--protocol header.csv": "header.csv: has no pairs",
    "--protocol columns.csv": f"columns.csv line 1: expected the columns {HEADER}[,initial_frame], got ['a', 'b']",
    "--protocol short.csv": "short.csv line 3: expected 4 values, none of them empty, got ['a', '1', 'b']",
    "--protocol blank.csv": "blank.csv line 2: expected 4 values, none of them empty, got ['a', '', 'b', '2']",
    "--protocol absent.csv": "none of 1 pairs could be evaluated: nobody: expected one clip or folder of frames of "
    "that name, found none",
    "--protocol absent.csv --strict": "nobody: expected one clip or folder of frames of that name, found none",
    "--metrics l1,beauty": f"metrics: expected some of {', '.join(METRICS)}, got 'beauty'",
    "--metrics fid": "metrics: expected another one beside fid, such as l1,fid, got fid alone",
    "--every 0": "argument --every: expected a whole number of at least 1, got '0'",
    "--output mixed": "output 'mixed': expected an empty folder or a report, found good.mp4",
    "--output short.csv": "output 'short.csv': is a file, expected a folder",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_said_in_one_line(mixed, tiny_weights, capsys, line):
    defaults = ["--data", "mixed", "--protocol", "same-identity", "--output", "r", "--weights", tiny_weights]
    assert main(["evaluate", *defaults, *line.split()]) == 2
    assert capsys.readouterr() == ("", f"depthaware: error: {WRONG[line]}\n")


def test_missing_libraries_cost_their_metrics_alone(data, tiny_weights, tmp_path, capsys, monkeypatch):
    def load(kind: str, name: str | None = None, device: str = "cpu") -> Stand:
        if kind == "identity":
            raise ValueError("identity: install something")
        return STANDS[kind]

    monkeypatch.setattr(extractors, "load", load)
    assert run(data, tiny_weights, tmp_path / "r") == 0
    assert capsys.readouterr().out.endswith("; without aed, csim (identity: install something)\n")
    assert run(data, tiny_weights, tmp_path / "s", "--metrics", "l1,csim") == 2
    assert capsys.readouterr().err == "depthaware: error: identity: install something\n"


def test_naming_a_finder_of_action_units_adds_their_metric(data, tiny_weights, tmp_path):
    assert run(data, tiny_weights, tmp_path / "r", "--limit", "2", "--action-units", "py-feat") == 0
    assert json.loads((tmp_path / "r/options.json").read_text())["metrics"][-1] == "aucon"


def test_depth_that_is_not_finite_is_refused_and_not_left_out():
    truth = Truth(torch.zeros(3, 3, 8, 8), torch.rand(3, 1, 8, 8) + 1, torch.ones(3, 1, 8, 8, dtype=torch.bool))
    depth = truth.depth.clone()
    depth[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^depth: 1 of 3 predicted maps are not finite, expected none$"):
        score([depth], [truth])


def test_the_progress_bar_counts_in_its_unit(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress(False, unit="pairs")(2, 4)
    assert "] 2 of 4 pairs, " in (bar := capsys.readouterr().err) and bar.endswith(" pairs/s")


class Means:
    """In the place of FID: the squared distance of the mean pictures."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.sums.append((prediction - target).sum(0))

    def compute(self) -> float:
        return sum(self.sums).square().mean().item()


def test_fid_needs_all_pairs_in_one_go(data, tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("depthaware.evaluation.folder.FID", Means)
    assert run(data, tiny_weights, tmp_path / "r", "--metrics", "l1,fid") == 0
    before = report(tmp_path / "r")
    content = json.loads(before["report.json"])
    fid = {score["prediction"]: score["mean"] for score in content["scores"] if score["metric"] == "fid"}
    assert fid["perfect"] == 0 < fid["copy"]
    assert {score["pairs"] for score in content["scores"] if score["metric"] == "fid"} == {21}
    assert run(data, tiny_weights, tmp_path / "r", "--metrics", "l1,fid") == 0
    assert report(tmp_path / "r") == before
    (tmp_path / "r/fid.json").unlink()
    assert run(data, tiny_weights, tmp_path / "r", "--metrics", "l1,fid") == 2
    assert "cannot be gone on with, expected an empty folder" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(data, tiny_weights, tmp_path / "s", "--metrics", "l1,fid") == 2
    assert "compares all pairs at once, expected one process, got 2" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_recipe_needs_four_lines(tiny_model, data, tmp_path):
    footage = ClipReader(data, tiny_model.image_size)
    plan = same_identity(footage, list_clips(data), every=3)
    summary = summarize(evaluate(tiny_model, plan.pairs, footage, metrics=["l1"]), ["l1"])
    assert summary.scores[0].mean > 0
    saved = evaluate_to_folder(tiny_model, plan, footage, tmp_path / "r", metrics=["l1"])
    assert saved.summary.scores[0].mean == pytest.approx(summary.scores[0].mean, rel=1e-6)
