"""Further rows of an evaluation: ablations, expression transfer, the target of CSIM, and strangers."""

import csv
import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from evaluation_clips import STANDS, load_stand_in, quick_reports, run, write_clips
from scipy.stats import linregress
from torch import nn

from depthaware import DaGAN, extractors
from depthaware.cli.main import main
from depthaware.evaluation import (
    ClipReader,
    Evaluator,
    Pair,
    Result,
    Scorer,
    cross_identity,
    evaluate,
    list_clips,
    same_identity,
    summarize,
    summarize_transfer,
)
from depthaware.evaluation.expression import compress, transfer_table
from depthaware.evaluation.variants import other_sources
from depthaware.metrics import bootstrap_interval


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture
def reader(data) -> ClipReader:
    return ClipReader(data, 64)


@pytest.fixture(scope="module")
def model(tiny_model) -> DaGAN:
    """With an attention that is at work."""
    model = deepcopy(tiny_model)
    with torch.no_grad():
        model.generator.attention.gate.fill_(3.0)
    return model


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(extractors, "load", load_stand_in)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_reports():
        yield


class Fixed(nn.Module):
    """In the place of a depth network: its own maps made flat, or always this map."""

    def __init__(self, depth_net: nn.Module, disparity: torch.Tensor | None = None) -> None:
        super().__init__()
        self.depth_net, self.disparity = depth_net, disparity

    def forward(self, image: torch.Tensor, num_scales: int) -> list[torch.Tensor]:
        if self.disparity is not None:
            return [self.disparity.repeat(len(image), 1, 1, 1)]
        return [torch.ones_like(x) * x.mean((1, 2, 3)).view(-1, 1, 1, 1) for x in self.depth_net(image, num_scales=1)]


@torch.inference_mode()
def scores_of(model: DaGAN, pairs: list[Pair], reader: ClipReader) -> np.ndarray:
    return np.array([result.scores[0] for result in evaluate(model, pairs, reader, metrics=["l1", "psnr"])])


def test_rows_of_ablations_are_models_without_the_part(model, data, reader):
    pairs = [Pair("clip0", 0, "clip0", 3), Pair("clip0", 0, "clip0", 5)]
    everything = [*pairs, Pair("clip3", 0, "clip3", 1), Pair("clip2", 1, "clip2", 3)]  # clip3 shows the same person
    persons = dict(list_clips(data))
    scorer = Scorer(["l1", "psnr"])
    among = dict(ablate=("depth", "attention"), pairs=everything, persons=persons)
    evaluator = Evaluator(model, reader, scorer, **among)
    assert other_sources(everything, persons) == {
        "clip0": ("clip2", 1),
        "clip3": ("clip2", 1),
        "clip2": ("clip0", 0),
    }
    assert evaluator.rows == (
        *("model", "copy", "perfect"),
        *("no attention", "constant disparity", "other disparity"),
    )
    found = np.array([result.scores for result in evaluator(pairs)])
    closed, flat, other = (deepcopy(model) for _ in range(3))
    with torch.no_grad():
        closed.generator.attention.gate.zero_()
        disparity = model.depth_net(reader.frame("clip2", 1), num_scales=1)[0]
    flat.depth_net, other.depth_net = Fixed(model.depth_net), Fixed(model.depth_net, disparity)
    for row, changed in ((0, model), (3, closed), (4, flat), (5, other)):
        np.testing.assert_allclose(found[:, row], scores_of(changed, pairs, reader), rtol=1e-5)
    rows = found[:, [0, 3, 4, 5], 0]
    assert all(abs(rows[:, i] - rows[:, j]).max() > 1e-7 for i, j in combinations(range(4), 2))


def test_singles_get_another_image_each_and_hooks_leave_nothing_behind(model, data, reader):
    pairs = cross_identity(reader, list_clips(data), every=9).pairs
    before = scores_of(model, pairs, reader)
    evaluator = Evaluator(model, reader, Scorer(["csim"], extractors=STANDS), ablate=("depth",), pairs=pairs)
    together = np.array([result.scores for result in evaluator(pairs)])
    alone = np.array([evaluator([pair])[0].scores for pair in pairs])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(scores_of(model, pairs, reader), before)
    assert not model.depth_net._forward_hooks and not model.generator.attention._forward_hooks


def test_several_sources_of_one_driving_video_get_their_other_images(model, reader):
    pairs = [Pair("clip0", 0, "clip1", 2), Pair("clip0", 3, "clip1", 1), Pair("clip2", 1, "clip1", 3)]
    evaluator = Evaluator(model, reader, Scorer(["csim"], extractors=STANDS), ablate=("depth",), pairs=pairs)
    together = np.array([result.scores for result in evaluator(pairs)])
    alone = np.array([evaluator([pair])[0].scores for pair in pairs])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_another_image_that_cannot_be_read_is_a_failure_of_its_pairs(model, reader):
    pairs = [Pair("clip0", 0, "clip0", 3), Pair("clip1", 99, "clip1", 1), Pair("clip2", 0, "clip2", 1)]
    evaluator = Evaluator(model, reader, Scorer(["l1"]), ablate=("depth",), pairs=pairs)
    broken, _, good = evaluator(pairs)
    assert broken.failure == "test/clip1.mp4: has 5 frames, expected one of number 99" and not good.failure


def test_the_report_pairs_each_ablation_with_the_model(model, data, tmp_path, capsys):
    model.save_pretrained(tmp_path / "w")
    assert run(data, str(tmp_path / "w"), tmp_path / "r", "--metrics", "l1", "--ablate", "attention,depth") == 0
    rows = list(csv.DictReader((tmp_path / "r/pairs.csv").open()))
    content = json.loads((tmp_path / "r/report.json").read_text())
    found = {score["prediction"]: score for score in content["scores"]}
    for name in ("no attention", "constant disparity", "other disparity"):
        differences = [float(row["model_l1"]) - float(row[f"{name.replace(' ', '_')}_l1"]) for row in rows]
        score = found[f"model - {name}"]
        assert score["mean"] == pytest.approx(np.mean(differences), rel=1e-3)
        videos = {row["driving_video"] for row in rows}
        means = {
            v: np.mean([d for d, r in zip(differences, rows, strict=True) if r["driving_video"] == v]) for v in videos
        }
        order = sorted(videos)
        ends = bootstrap_interval(
            [means[v] for v in order], groups=[{"clip3": "clip0"}.get(v, v) for v in order], draws=50
        )
        assert (score["low"], score["high"]) == pytest.approx(ends, rel=1e-3)
    text = (tmp_path / "r/report.md").read_text()
    assert "| no attention |" in text and "w - other disparity | " in text


def test_a_part_that_is_not_there_cannot_be_switched_off(tiny_weights, data, tmp_path, capsys):
    bare = DaGAN(**(DaGAN.from_pretrained(tiny_weights).config | dict(attention="none", keypoint_input="rgb")))
    bare.save_pretrained(tmp_path / "w")
    for part in ("attention", "depth"):
        assert run(data, str(tmp_path / "w"), tmp_path / "r", "--metrics", "l1", "--ablate", part) == 2
        assert f"error: ablate: expected a model with {part}, this one has none\n" in capsys.readouterr().err
    assert run(data, tiny_weights, tmp_path / "r", "--ablate", "mouth") == 2
    assert "--ablate: expected attention or depth, or both with a comma between, got 'mouth'" in capsys.readouterr().err
    noise = [draw_image(i, (64, 64)) for i in range(3)]
    (tmp_path / "one").mkdir()
    make_clip(tmp_path / "one/a.mp4", 3, (64, 64), images=noise)
    assert run(tmp_path / "one", tiny_weights, tmp_path / "r", "--metrics", "l1", "--ablate", "depth") == 2
    assert "expected sources of at least 2 persons for other disparity, got a.mp4" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_expression_of_a_report_is_that_of_its_pairs(tiny_weights, tmp_path):
    """Between all images of one clip; by scipy, from pairs.csv."""
    (tmp_path / "d").mkdir()
    for i in range(2):
        images = [np.roll(draw_image(i, (64, 64)), 5 * k, 1) // (1 + k % 3) + 60 for k in range(13)]
        make_clip(tmp_path / f"d/c{i}.mp4", 13, (64, 64), images=images)
    assert run(tmp_path / "d", tiny_weights, tmp_path / "r", "--metrics", "expression,l1") == 0
    rows = list(csv.DictReader((tmp_path / "r/pairs.csv").open()))
    content = json.loads((tmp_path / "r/report.json").read_text())
    assert {score["metric"] for score in content["scores"]} == {"l1"}
    assert {score["prediction"] for score in content["scores"]} >= {"copy", "perfect", "compressed"}
    for score in content["expression"]:
        series = [
            [
                [float(row[f"{who}_{score['feature']}"]) for row in rows if row["driving_video"] == f"c{i}.mp4"]
                for i in (0, 1)
            ]
            for who in ("perfect", score["prediction"])
        ]
        assert min(np.std(target) for target in series[0]) > 0.05  # they move
        if score["prediction"] == "copy":
            assert (score["correlation"], score["slope"], score["clips"]) == (0, 0, 2)
            continue
        fits = [linregress(*pair) for pair in zip(*series, strict=True)]
        assert score["correlation"] == pytest.approx(np.mean([fit.rvalue for fit in fits]), abs=1e-4)
        assert score["slope"] == pytest.approx(np.mean([fit.slope for fit in fits]), abs=1e-4)
        assert score["correlation_low"] <= score["correlation"] <= score["correlation_high"]
    text = (tmp_path / "r/report.md").read_text()
    assert "| expression, correlation / slope | mouth opening | mouth width | eye opening |" in text
    assert (
        "| copy | 0.00 (0.00 to 0.00) / 0.00 (0.00 to 0.00) |" in text
        and "(clips / persons: mouth opening 2 / 2, " in text
    )


def test_transfer_is_a_mean_of_clips_with_an_interval_over_persons():
    """Two clips of one person and one of another, the model moving as it should, against it, and not at all."""
    target = np.sin(np.arange(20.0))
    results = [
        Result(Pair(name, 0, name, i), ((slope * y,), (0.3,), (y,), (y,)))
        for name, slope in (("a1", 0.5), ("a2", -1.0), ("b1", 1.0))
        for i, y in enumerate(target)
    ]
    results.append(Result(Pair("b1", 0, "b1", 20), ((9.0,), (9.0,), (np.nan,), (9.0,))))  # no face: left out
    still = [Result(Pair("c", 0, "c", i), ((y,), (0.3,), (0.5,), (y,))) for i, y in enumerate(target)]
    rows = ("model", "copy", "perfect", "no attention")
    persons = {"a1": "a", "a2": "a", "b1": "b"}
    found = summarize_transfer(results + still, ["mouth_opening"], rows=rows, persons=persons)
    scores = {score.prediction: score for score in found}
    assert "| m | 0.33 (0.00 to 1.00) / 0.17 (-0.25 to 1.00) |" in list(transfer_table("m", found))
    one = summarize_transfer(results, ["mouth_opening"], rows=rows, persons=dict.fromkeys(persons, "a"))
    assert "| m | 0.33 / 0.17 |" in list(transfer_table("m", one))  # no interval over one person
    model = scores["model"]
    assert (model.clips, model.persons) == (3, 2)
    assert (model.correlation, model.slope) == pytest.approx((1 / 3, 0.5 / 3))
    assert (model.correlation_low, model.correlation_high) == pytest.approx((0, 1))  # person a twice, person b twice
    assert (scores["copy"].correlation, scores["no attention"].slope) == pytest.approx((0, 1))
    assert scores["model - no attention"].correlation == pytest.approx(-2 / 3)


def test_csim_is_to_the_image_that_was_chosen(tiny_model, data, reader):
    same, across = (make(reader, list_clips(data), every=4).pairs for make in (same_identity, cross_identity))

    def copied_and_perfect(pairs: list[Pair], csim: str) -> np.ndarray:
        results = evaluate(tiny_model, pairs, reader, metrics=["csim"], extractors=STANDS, csim=csim)
        return np.array([(result.scores[1][0], result.scores[2][0]) for result in results])

    for pairs, auto in ((same, "driving"), (across, "source")):
        to_source, to_driving = (copied_and_perfect(pairs, csim) for csim in ("source", "driving"))
        assert (to_source[:, 0] == 1).all() and (to_driving[:, 1] == 1).all()
        np.testing.assert_allclose(to_source[:, 1], to_driving[:, 0], rtol=1e-5)  # each against the other
        assert to_source[:, 1].max() < 1
        np.testing.assert_array_equal(
            copied_and_perfect(pairs, "auto"), {"source": to_source, "driving": to_driving}[auto]
        )
    with pytest.raises(ValueError, match=r"^csim: expected 'auto', 'source' or 'driving', got 'target'$"):
        Scorer(["csim"], extractors=STANDS, csim="target")  # type: ignore[arg-type]


def test_the_report_names_the_target_of_csim_and_the_strangers(data, reader, tiny_weights, tmp_path):
    assert run(data, tiny_weights, tmp_path / "r", "--metrics", "csim,l1", "--csim", "source") == 0
    text = (tmp_path / "r/report.md").read_text()
    assert "| | L1 ↓ | CSIM to source ↑ |" in text and "CSIM compares with the source." in text
    faces = [
        STANDS["identity"](
            torch.nn.functional.interpolate(reader.frame(f"clip{i}", 0), size=256, mode="bilinear", antialias=True)
        )
        for i in range(3)
    ]
    x = [face[0].double().numpy() for face in faces]
    cosine = {(i, j): x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i, j in combinations(range(3), 2)}
    found = json.loads((tmp_path / "r/report.json").read_text())["strangers"]
    assert found["persons"] == 3 and found["csim"] == pytest.approx(np.mean(list(cosine.values())), abs=1e-4)
    assert f"| strangers | – | {found['csim']:.4g} |" in text


def test_one_person_has_neither_strangers_nor_intervals(tiny_weights, tmp_path):
    (tmp_path / "one").mkdir()
    make_clip(tmp_path / "one/a.mp4", 3, (64, 64), images=[draw_image(i, (64, 64)) for i in range(3)])
    assert run(tmp_path / "one", tiny_weights, tmp_path / "r", "--metrics", "csim,l1") == 0
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert report["strangers"] is None and {score["low"] for score in report["scores"]} == {None}
    text = (tmp_path / "r/report.md").read_text()
    assert "strangers" not in text and " to –" not in text


def test_compression_changes_little_and_keeps_size_and_order():
    images = torch.stack([torch.from_numpy(draw_image(i, (64, 66)).copy()).permute(2, 0, 1) / 255 for i in range(5)])
    again = compress(images[..., :65])
    assert again.shape == (5, 3, 64, 65)
    errors = [[(a - b).abs().mean().item() for b in images[..., :65]] for a in again]
    assert np.argmin(errors, axis=1).tolist() == [0, 1, 2, 3, 4] and 0 < max(min(row) for row in errors) < 0.1


def test_intervals_are_over_persons():
    results = [Result(Pair(v, 0, v, 1), ((x,), (0.0,), (0.0,))) for v, x in (("a1", 0.0), ("a2", 1.0), ("b", 0.5))]
    alone, grouped = (summarize(results, ["l1"], persons=persons).scores[0] for persons in ({}, {"a1": "a", "a2": "a"}))
    assert alone.mean_of_videos == grouped.mean_of_videos == 0.5
    assert (grouped.low, grouped.high) == (0.5, 0.5) and (alone.low, alone.high) != (0.5, 0.5)


def test_the_command_line_names_what_no_pair_can_have(data, tiny_weights, tmp_path, capsys):
    options = [
        "--data",
        str(data),
        "--protocol",
        "cross-identity",
        "--metrics",
        "l1,csim",
        "--output",
        str(tmp_path / "r"),
    ]
    assert main(["evaluate", "--weights", tiny_weights, *options]) == 0
    assert capsys.readouterr().out.endswith("; without l1 (between persons there is no true image to compare with)\n")
