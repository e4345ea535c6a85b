"""All rows of the ablation get the same, and its tables say what was measured."""

import csv
import dataclasses
import json
import shutil
import sys
from math import nan
from pathlib import Path

import ablation
import numpy as np
import pytest
from ablation import ROWS, Options, Outcome
from clips import make_clip
from evaluation_clips import STANDS, load_stand_in
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import fresh

from depthaware import DaGAN, SelfSupDepthNet
from depthaware.data import read_clip
from depthaware.evaluation import ClipReader, Pair, Result, cross_identity, evaluate, list_clips
from depthaware.evaluation.ablation import DIFFERENCES, Row, difference, fill_page, table
from depthaware.evaluation.clip_scores import clip_scores
from depthaware.extractors.dlib_faces import dlib_faces
from depthaware.training.stage2 import NETWORKS

PAGE = Path(__file__).parents[1] / "docs" / "ablation.md"
COUNTS = {"train": 4, "test": 3}
SMALL = dict(size=64, batch=2, images=2, hold_out=1, every=5, metrics="l1,psnr", cross="none", cpu=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Persons, each with a clip of moving noise; the first of either split with two."""
    folder = tmp_path_factory.mktemp("data")
    lines = [("name", "kind", "split", "identity")]
    for split, count in COUNTS.items():
        (folder / split / "clips").mkdir(parents=True)
        for number in range(count + 1):
            name, person = f"{split}{number}", f"{split}{max(number, 1)}"
            coarse = np.random.default_rng([number, count]).integers(0, 256, (4, 4, 3)).astype(np.uint8)
            images = [np.roll(coarse.repeat(16, 0).repeat(16, 1), 2 * i, axis=1) for i in range(8)]
            make_clip(folder / split / "clips" / f"{name}.mp4", size=(64, 64), frames=8, images=images)
            lines.append((name, "clip", split, person))
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder


@pytest.fixture(scope="module")
def depth(tmp_path_factory) -> str:
    """A folder of stage 1."""
    folder, model = tmp_path_factory.mktemp("depth"), NETWORKS["mini"].model
    options = dict(decoder_channels=model["depth_channels"], depth_range=[0.7, 1.5])
    SelfSupDepthNet(model["depth_encoder"], **options).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def stood_in(data, depth, tiny_weights, tmp_path_factory) -> tuple[Path, list[tuple[int, str]]]:
    """The folder of an ablation in which all rows have the same weights, and the rows it would have trained."""
    folder, seen = tmp_path_factory.mktemp("ablation"), []

    def train(options: Options, row: Row, seed: int) -> None:
        seen.append((seed, row.attention))
        output = Path(ablation.run_options(options, row, seed).output)
        shutil.copytree(tiny_weights, output / "weights")
        (output / "stats.jsonl").write_text('{"images": 2, "seconds": 1.5}\n')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "train", train)
        options = Options(data=str(data), depth=depth, output=str(folder), **SMALL)
        for rows, seeds in (("Baseline,DaGAN", "3"), ("Baseline,DaGAN", "3,5"), ("Baseline", "3")):
            ablation.main(dataclasses.replace(options, rows=rows, seeds=seeds))
    return folder, seen


def test_all_rows_of_a_seed_come_before_the_next_and_none_twice(stood_in):
    expected = [(3, "none"), (3, "cross"), (5, "none"), (5, "cross")]
    assert stood_in[1] == expected
    runs = json.loads((stood_in[0] / "ablation.json").read_text())["runs"]  # the last call asked for one of them alone
    assert [(run["seed"], run["row"]) for run in runs] == [(s, row) for s in (3, 5) for row in ("Baseline", "DaGAN")]
    assert {run["seconds"] for run in runs} == {1.5}


def test_rows_get_the_same_but_for_what_makes_the_row(depth):
    options = Options(data="data", depth=depth)
    runs = [ablation.run_options(options, row, 0) for row in ROWS]
    loss = "keypoint_distance"
    makes = ("num_keypoints", "keypoint_input", "attention")
    for field in dataclasses.fields(ablation.RowOptions):
        if field.name not in (*makes, loss, "output"):
            assert len({getattr(run, field.name) for run in runs}) == 1, field.name
    assert len({tuple(getattr(run, name) for name in (*makes, loss)) for run in runs}) == 9
    for run, row in zip(runs, ROWS, strict=True):
        assert {name: getattr(run, name) for name in (*makes, loss)}.items() <= row._asdict().items()
    configs = [ablation.build(options, row, 0).config for row in ROWS]
    for name in configs[0].keys() - {*makes, "depth_range"}:
        assert len({str(config[name]) for config in configs}) == 1, name
    assert len({run.output for run in runs}) == 9
    assert len({tuple(config[name] for name in makes) for config in configs}) == 9
    assert {config["keypoint_input"] == "rgb" or tuple(config["depth_range"]) for config in configs} == {
        True,
        (0.7, 1.5),
    }


def test_with_the_same_weights_no_row_differs(stood_in):
    found = json.loads((stood_in[0] / "ablation.json").read_text())
    assert difference(found, DAGAN, "l1") == (0, 0, 0, (0, 0))
    assert "**" not in (stood_in[0] / "ablation.md").read_text().replace(DIFFERENCES, "")


def test_copying_is_the_difference_to_the_first_frame(stood_in):
    found = json.loads((stood_in[0] / "ablation.json").read_text())
    assert found["persons"] == [0, 0, 1, 2]
    for number, copied in enumerate(found["copy"]["l1"]):
        frames = read_clip(stood_in[0] / "clips64" / "test" / "clips" / f"test{number}.mp4", 64).astype(float)
        assert copied == pytest.approx(np.abs(frames[5] - frames[0]).mean() / 255, abs=2e-6)


def test_table_4_has_its_own_columns_across_identities(data, depth, tiny_weights, tmp_path, monkeypatch):
    def train(options: Options, row: Row, seed: int) -> None:
        output = Path(ablation.run_options(options, row, seed).output)
        shutil.copytree(tiny_weights, output / "weights")
        (output / "stats.jsonl").write_text('{"images": 2, "seconds": 1.5}\n')

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation.extractors, "load", load_stand_in)
    options = {**SMALL, "cross": "csim,prmse", "rows": "Baseline", "seeds": "0"}
    ablation.main(Options(data=str(data), depth=depth, output=str(tmp_path), **options))
    found = json.loads((tmp_path / "ablation.json").read_text())
    clips = list_clips(tmp_path / "clips64")
    reader = ClipReader(tmp_path / "clips64", 64)
    pairs = cross_identity(reader, clips, every=5).pairs
    model = DaGAN.from_pretrained(tiny_weights)
    results = list(evaluate(model, pairs, reader, metrics=["csim", "prmse"], extractors=STANDS, csim="source"))
    for row, seen in enumerate((found["runs"][0]["scores"], found["copy"])):
        for k, metric in enumerate(("cross_csim", "cross_prmse")):
            for clip, value in zip(clips, seen[metric], strict=True):
                frames = [r.scores[row][k] for r in results if r.pair.driving_video == clip.name]
                assert value == pytest.approx(np.mean(frames), abs=2e-6)
    assert found["copy"]["cross_csim"] == [1, 1, 1, 1]
    assert "| CSIM across identities ↑ | PRMSE across identities ↓ |" in (tmp_path / "ablation.md").read_text()


def test_frames_without_a_face_count_in_no_mean_of_a_clip():
    def result(clip: str, *values: float) -> Result:
        return Result(Pair(clip, 0, clip, 1), ((values[0],), (values[1],), (0.0,)))

    results = [result("a", 0.2, nan), result("b", nan, 0.5), result("a", 0.4, 0.3), result("b", nan, 0.1)]
    model, copy, found = clip_scores(results, ["b", "a"], ["l1"])
    np.testing.assert_allclose([model["l1"], copy["l1"]], [[nan, 0.3], [0.3, 0.3]])
    assert found == 0.5


def test_small_clips_are_the_large_ones(data, tmp_path):
    options = Options(data=str(data), output=str(tmp_path), size=48)
    ablation.write_small_clips(options)
    folder = ablation.clips_folder(options)
    written = sorted(path.relative_to(folder) for path in folder.rglob("*.mp4"))
    assert written == sorted(path.relative_to(data) for path in data.rglob("*.mp4"))
    for path in written:
        small, large = read_clip(folder / path, 48).astype(float), read_clip(data / path, 48).astype(float)
        assert len(small) == 8 and np.abs(small - large).mean() < 10
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    (folder / "manifest.csv").unlink()
    for _ in range(2):
        ablation.write_small_clips(options)
        assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}


def test_clips_of_other_data_are_refused(data, depth, stood_in, tmp_path):
    options = Options(data=str(tmp_path), depth=depth, output=str(stood_in[0]))
    with pytest.raises(ValueError, match=f"^--data {tmp_path}: expected a manifest.csv .* found none$"):
        ablation.check_training(options)
    text = (data / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(text.replace("test2,clip,test,", "test2,clip,train,"))
    with pytest.raises(ValueError, match=r"clips64/manifest.csv: has other clips than --data .*; choose another"):
        ablation.write_small_clips(options)


def test_rows_are_really_trained(data, depth, tmp_path):
    fresh()
    options = Options(data=str(data), depth=depth, output=str(tmp_path), seeds="0", rows="Baseline,DaGAN,FOMM", **SMALL)
    ablation.main(options)
    found = json.loads((tmp_path / "ablation.json").read_text())
    baseline, dagan, _ = found["runs"]
    assert dagan["parameters"] > baseline["parameters"] and baseline["gate"] is None and dagan["gate"] is not None
    assert all(run["seconds"] > 0 and run["scores"]["l1"] != found["copy"]["l1"] for run in found["runs"])
    logs = {
        row: json.loads((tmp_path / f"0-{row}" / "stats.jsonl").read_text()) for row in ("baseline", "dagan", "fomm")
    }
    assert all(log["gradient"] > 0 and log["pyramid"] > 0 and log["deformed"] > 0 for log in logs.values())
    assert logs["baseline"]["keypoint_distance"] > 0 and logs["fomm"]["keypoint_distance"] == 0
    written = json.loads((tmp_path / "0-fomm" / "options.json").read_text())
    changed = ("size", "network", "motion_size", "learning_rate", "candidates", "pyramid", "deformed")
    assert {name: written[name] for name in changed} == {name: getattr(options, name) for name in changed}
    assert written["keypoint_distance"] == 0 and written["num_keypoints"] == 10 and written["precision"] != "auto"


def test_runs_of_other_options_are_not_mixed(data, depth, stood_in):
    before = (stood_in[0] / "ablation.json").read_text()
    options = Options(data=str(data), depth=depth, output=str(stood_in[0]), **{**SMALL, "images": 6})
    with pytest.raises(
        ValueError, match=r"ablation.json: was created with --images 2, got --images 6; .* another output$"
    ):
        ablation.main(options)
    assert (stood_in[0] / "ablation.json").read_text() == before


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(rows="Baseline,dagan"), "--rows: expected all or some of Baseline, .*, got 'dagan'"),
        (dict(seeds="0,a"), "--seeds: expected whole numbers from 0 on, separated by commas, got '0,a'"),
        (dict(metrics="l1,ssm"), "--metrics: expected l1 and any of ssim, .*, got 'ssm'"),
        (dict(metrics="ssim"), "--metrics: expected l1 and any of ssim, .*, got no l1 in 'ssim'"),
        (dict(cross="l1"), "--cross: expected none or any of csim, prmse, aucon, got 'l1'"),
        (dict(network="nano"), "--network: expected mini, tiny or paper, got 'nano'"),
        (dict(precision="half"), "--precision: expected auto, bfloat16 or float32, got 'half'"),
        (dict(data=None), "--data: expected a folder of clips with a manifest.csv, got none; .*prepare_clips.py .*"),
        (dict(depth=None), "--depth: expected a folder of train_depth.py, got none"),
        (dict(candidates=0), "--candidates: expected at least 1, got 0"),
        (dict(size=0), "--size: expected at least 1, got 0"),
        (dict(every=0), "--every: expected at least 1, got 0"),
        (dict(page="page.md"), "--page: expected --table too, got none"),
        (dict(depth="nowhere"), "--depth nowhere: expected a folder of train_depth.py or .*, found no config.json"),
        (dict(metrics="l1,akd"), "dlib is not installed: pip install .depthaware.eval.."),
    ],
)
def test_a_mistake_shows_before_anything_is_made(wrong, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)  # as if it were not installed
    dlib_faces.cache_clear()
    with pytest.raises((ValueError, ImportError), match=f"^{message}$"):
        ablation.main(
            Options(**{"data": "data", "output": str(tmp_path / "out"), "metrics": "l1", "cross": "none", **wrong})
        )
    assert not (tmp_path / "out").exists()


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ablation.machine(Options(cpu=True))["commit"] == ""


def test_runs_of_two_machines_name_both():
    once = ablation.merge_machines({"commit": "a", "torch": "2"}, {"commit": "b", "torch": "2", "precision": "float32"})
    assert once == {"commit": "a and b", "torch": "2", "precision": "float32"}
    assert ablation.merge_machines(once, {"commit": "b", "torch": "2", "precision": "float32"}) == once


# The tables

PERSONS = [0, 0, 1, 2, 2, 2]
FDN: Row = ROWS[1]
DAGAN: Row = ROWS[4]
scores = st.lists(st.floats(0.01, 1), min_size=6, max_size=6)


def found_of(runs: dict[tuple[str, int], list[float]]) -> dict:
    """Results as ablation.py writes them for these values of L1."""
    outcomes = [Outcome(row, seed, 10, 1.0, None, 1.0, {"l1": values}) for (row, seed), values in runs.items()]
    options = {"images": 1, "size": 64, "batch": 8, "learning_rate": 1e-3}
    rows, lists = [row._asdict() for row in ROWS], [outcome._asdict() for outcome in outcomes]
    copy = {"l1": [0.5] * 6}
    return dict(machine={}, options=options, rows=rows, persons=PERSONS, pairs=9, copy=copy, runs=lists)


@settings(max_examples=15, deadline=None)
@given(base=scores, shift=st.floats(-0.5, 0.5))
def test_a_shift_of_all_scores_is_the_difference_and_its_interval(base, shift):
    moved = [x + shift for x in base]
    got = difference(found_of({("Baseline", 0): base, ("w/ FDN", 0): moved}), FDN, "l1")
    assert np.allclose([got.mean, got.low, got.high, *got.seeds], shift, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(base=st.lists(scores, min_size=2, max_size=2), ours=st.lists(scores, min_size=2, max_size=2))
def test_every_person_counts_once_and_every_seed_is_compared_with_itself(base, ours):
    runs = {("Baseline", s): base[s] for s in (0, 1)} | {("w/ FDN", s): ours[s] for s in (1, 0)}
    got = difference(found_of(runs), FDN, "l1")
    first, second = (np.subtract(ours[s], base[s]) for s in (0, 1))
    people = [(d[0] + d[1]) / 6 + d[2] / 3 + (d[3] + d[4] + d[5]) / 9 for d in (first, second)]
    assert np.allclose(got.seeds, people) and np.isclose(got.mean, sum(people) / 2)
    assert got.low <= got.mean <= got.high or np.isclose(got.low, got.high)


def test_a_clip_without_a_face_counts_in_no_row():
    runs = {("Baseline", 0): [0.2, 0.4, 0.3, 0.6, 0.6, 0.6], ("w/ FDN", 0): [0.1, nan, 0.2, 0.3, 0.3, 0.3]}
    runs[("DaGAN", 0)] = [0.9, 0.9, nan, 0.9, 0.9, 0.9]
    found = found_of(runs)
    found["copy"]["l1"] = [0.5, 0.5, 0.5, nan, 0.5, 0.5]
    text = table(found)  # left are clip 0, of person 0, and clips 4 and 5, of person 2
    assert "L1 of 2 persons" in text and "nan" not in text
    assert "| copying the source | | | | 0.5000 |" in text and "| Baseline | 10 | 1 |  | 0.4000 |" in text
    assert difference(found, FDN, "l1").mean == pytest.approx((-0.1 - 0.3) / 2)


def test_a_metric_that_no_clip_has_is_left_out():
    found = found_of({("Baseline", 0): [0.2] * 6, ("w/ FDN", 0): [0.1] * 6})
    found["copy"]["akd"] = [nan] * 6
    for run in found["runs"]:
        run["scores"]["akd"] = [1.0] * 6
    assert "AKD of 0 persons" in table(found) and "AKD ↓" not in table(found)


def test_rows_without_a_common_seed_are_not_compared():
    assert "L1 of each seed" not in table(found_of({("Baseline", 0): [0.2] * 6, ("w/ FDN", 1): [0.1] * 6}))


def test_a_seed_that_is_not_finished_is_left_out_of_the_difference():
    runs = {("Baseline", 0): [0.2] * 6, ("w/ FDN", 0): [0.3] * 6, ("Baseline", 1): [0.9] * 6}
    assert difference(found_of(runs), FDN, "l1").seeds == pytest.approx((0.1,))


@pytest.mark.parametrize("second, bold", [(0.15, True), (0.25, False)])
def test_bold_is_what_every_seed_agrees_on(second, bold):
    runs = {("Baseline", s): [0.2] * 6 for s in (0, 1)} | {("w/ FDN", 0): [0.1] * 6, ("w/ FDN", 1): [second] * 6}
    mean = (second - 0.3) / 2
    assert (f"**{mean:+.4f}** [{mean:+.4f}, {mean:+.4f}]" in table(found_of(runs))) is bold


def test_the_page_shows_the_numbers_of_its_file():
    page, found = PAGE.read_text(), json.loads(PAGE.with_suffix(".json").read_text())
    assert fill_page(page, found) == page and table(found) in page


def test_the_recipe_fills_a_page_or_prints(tmp_path, capsys):
    found = PAGE.with_suffix(".json")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end -->\nafter\n")
    ablation.main(Options(table=str(found), page=str(page)))
    ablation.main(Options(table=str(found)))
    tables = table(json.loads(found.read_text()))
    assert page.read_text() == f"before\n<!-- tables -->\n\n{tables}\n\n<!-- end -->\nafter\n"
    assert capsys.readouterr().out == tables + "\n"


def test_a_page_without_its_comments_is_refused_and_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\nafter\n")
    with pytest.raises(ValueError, match=r"^page: expected the comments <!-- tables --> and <!-- end -->, found none$"):
        ablation.main(Options(table=str(PAGE.with_suffix(".json")), page=str(page)))
    assert page.read_text() == "before\n<!-- tables -->\nafter\n"
