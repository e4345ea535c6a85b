"""The folder of an evaluation: report, contact sheet, FID, and metrics whose library is missing."""

import csv
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_clips import IMAGES, STANDS, Stand, load_stand_in, quick_reports, report, run, write_clips
from torch import Tensor

from depthaware import extractors
from depthaware.cli.common import progress
from depthaware.evaluation import (
    METRICS,
    Pair,
    Result,
    sheet,
)
from depthaware.evaluation.results_log import Row
from depthaware.media.image import read_image


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(extractors, "load", load_stand_in)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_reports():
        yield


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
    spec, ranked = sheet.rank_pairs([*rows, failed], [metric])
    assert spec == METRICS[metric]
    assert [entry.label for entry in ranked] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert (ranked[0].value, ranked[6].value) == (best, 29 - best) and ranked[3].value in (14, 15)
    assert all(order[entry.number] == entry.value for entry in ranked)
    for three in (ranked[:3], ranked[3:6], ranked[6:]):
        assert len({entry.number % 5 for entry in three}) == 3


def test_titles_of_any_length_and_letters_fit_on_the_sheet(tmp_path):
    images = [torch.rand(1, 3, 64, 64) for _ in range(3)]
    titles = ["short", "W" * 500, "line\nbreak, \udcff undecodable, 日本"]
    heights = set()
    for title in titles:
        sheet.write_sheet(tmp_path / "s.png", [(title, True, sheet.Prediction(*images))])
        content = read_image(tmp_path / "s.png")
        heights.add(len(content))
        line = content[20:40]
        assert line.min() < 64 and (line[[0, -1]] == 255).all() and (line[:, -2:] == 255).all()  # nothing is cut off
    assert heights == {20 + 20 + 160}


def test_the_sheet_shows_no_difference_without_ground_truth(tmp_path):
    images = sheet.Prediction(*(torch.full((1, 3, 64, 64), value) for value in (0.0, 0.25, 0.5)))
    sheet.write_sheet(tmp_path / "s.png", [("with", True, images), ("without", False, images)])
    content = read_image(tmp_path / "s.png")
    for top, last in ((40, 128), (220, 255)):
        row = content[top : top + 160]
        assert [int(row[80, 80 + 166 * i, 0]) for i in range(4)] == [0, 64, 128, last]
    sheet.write_sheet(tmp_path / "t.png", iter([("without", False, images)]))
    assert read_image(tmp_path / "t.png").shape[1] == 3 * 166


def test_missing_libraries_cost_their_metrics_alone(data, tiny_weights, tmp_path, capsys, monkeypatch):
    def load(kind: str, name: str | None = None, device: str = "cpu") -> Stand:
        if kind == "identity":
            raise ImportError("identity: install something")
        return STANDS[kind]

    monkeypatch.setattr(extractors, "load", load)
    assert run(data, tiny_weights, tmp_path / "r") == 0
    assert capsys.readouterr().out.endswith("; without aed, csim (identity: install something)\n")
    assert run(data, tiny_weights, tmp_path / "s", "--metrics", "l1,csim") == 2
    assert capsys.readouterr().err == "depthaware: error: identity: install something\n"


def test_naming_a_detector_of_action_units_adds_their_metric(data, tiny_weights, tmp_path):
    assert run(data, tiny_weights, tmp_path / "r", "--limit", "2", "--action-units", "py-feat") == 0
    assert json.loads((tmp_path / "r/options.json").read_text())["metrics"][-4] == "aucon"


def test_the_real_detectors_find_the_bundled_face(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.undo()  # without stand-ins
    pytest.importorskip("dlib")
    media = Path(sys.modules["depthaware"].__file__).parent / "assets"
    (tmp_path / "clips").mkdir()
    shutil.copy(media / "driving.mp4", tmp_path / "clips")
    assert run(tmp_path / "clips", tiny_weights, tmp_path / "r", "--limit", "2") == 0
    scores = {(s["metric"], s["prediction"]): s for s in json.loads((tmp_path / "r/report.json").read_text())["scores"]}
    assert {metric for metric, _ in scores} == {*IMAGES, "akd", "aed", "csim", "prmse"}
    assert scores["akd", "perfect"]["mean"] == 0 and scores["csim", "perfect"]["mean"] == 1
    assert scores["akd", "copy"]["pairs"] == 2 and 0 < scores["akd", "copy"]["mean"] < 60


def test_the_progress_bar_counts_in_its_unit(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = progress(False, unit="pairs")
    show(2, 4)
    show(4, 4)
    bar = capsys.readouterr().err
    assert "| 2/4 [" in bar and "pairs" in bar
    progress(True)(1, 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    progress(False)(1, 1)
    assert capsys.readouterr().err == ""


class Means:
    """In the place of FID: the squared distance of the mean images."""

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
    assert "cannot be resumed, expected an empty folder" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(data, tiny_weights, tmp_path / "s", "--metrics", "l1,fid") == 2
    assert "compares all pairs at once, expected one process, got 2" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
