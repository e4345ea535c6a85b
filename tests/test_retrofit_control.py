"""examples/benchmarks/measure_retrofit_control.py: what it compares differs in depth alone."""

import json
from pathlib import Path

import measure_retrofit_control as control
import numpy as np
import pytest
import torch
from measure_retrofit_control import ALONE, BASE, DEPTH, FLAT, Options
from recipes import fresh, write_data
from torch import Tensor

from depthaware import extractors
from depthaware.data.frames import read_clip

ROWS = (ALONE, FLAT, DEPTH)
PAGE = Path(__file__).parents[1] / "docs" / "retrofit.md"


def stand_in(images: Tensor) -> Tensor:
    """Landmarks that follow the colors; none in dark images."""
    points = images.mean((2, 3))[:, None, :2].expand(-1, 68, -1) * 256
    return points.where(images.mean((1, 2, 3))[:, None, None] > 0.4, torch.nan)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> Options:
    folder = tmp_path_factory.mktemp("control")
    sizes = dict(width=2, base_images=4, images=4, batch=2, every=2, fold=2, frames=2, depth_size=64)
    places = dict(data=str(write_data(folder / "clips")), depth=str(folder / "depth"), output=str(folder / "out"))
    return Options(**places, **sizes, fine_rate=0.1, new_rate=10.0, seeds="0,1")


@pytest.fixture(scope="module")
def done(options) -> tuple[dict, list]:
    """All results of two seeds, and of each step depth network, seed, images, first source, and the depth encoder."""
    fresh()
    steps, losses = [], control.losses

    def watched(network, source, driving, seed, images):
        half = network.generator
        encoder = torch.cat([torch.zeros(1), *(p.detach().flatten() for p in half.depth_encoder.parameters())])
        steps.append((type(half.depth_net), seed, images, source[0], encoder))
        return losses(network, source, driving, seed, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "losses", watched)
        patch.setattr(extractors, "load", lambda *_: stand_in)
        control.main(options)
    return json.loads(Path(options.output, "control.json").read_text()), steps


def test_all_rows_of_a_seed_see_the_same_pairs_with_the_same_new_weights(done):
    tuned = done[1][2:]
    assert len(tuned) == 12  # two steps of three rows with two seeds, after the two of the FOMM
    begun = {}
    for seed, images in ((0, 2), (0, 4), (1, 2), (1, 4)):
        seen = {net: (source, encoder) for net, s, n, source, encoder in tuned if (s, n) == (seed, images)}
        assert set(seen) == {type(None), control.ConstantDepth, control.EnlargedDepth}
        sources = [source for source, _ in seen.values()]
        assert torch.equal(sources[0], sources[1]) and torch.equal(sources[0], sources[2])
        begun.setdefault(seed, (sources[0], seen[control.EnlargedDepth][1], seen[control.ConstantDepth][1]))
    for _, with_depth, with_constant in begun.values():
        assert torch.equal(with_depth, with_constant) and len(with_depth) > 1
    assert not torch.equal(begun[0][0], begun[1][0]) and not torch.equal(begun[0][1], begun[1][1])


def test_rows_begin_alike_and_end_apart(options, done):
    runs = {(run["row"], run["seed"]): run for run in done[0]["runs"]}
    assert set(runs) == {(BASE.name, 0)} | {(row.name, seed) for row in ROWS for seed in (0, 1)}
    source, driving = torch.rand(2, 1, 3, 64, 64)
    fomm = control.load_fomm(options)
    before = [control.Reconstruction(fomm, row, options).eval()(source, driving)[0]["prediction"] for row in ROWS]
    assert torch.equal(before[0], before[1]) and torch.equal(before[0], before[2])
    scores = [runs[row.name, 0]["scores"]["l1"] for row in ROWS]
    assert len({tuple(values) for values in scores}) == 3
    for row in (FLAT, DEPTH):
        assert len(runs[row.name, 0]["gates"]) == 4 and all(gate > 0 for gate in runs[row.name, 0]["gates"].values())
    assert runs[ALONE.name, 0]["gates"] == {}


def test_an_interrupted_row_ends_as_if_it_had_not_been(options, done, tmp_path, monkeypatch):
    again = Options(**{**vars(options), "output": str(tmp_path)})
    parts = control.split(options, Path(options.output, "frames64"))
    losses = control.losses

    def interrupted(*args):
        if args[-1] == 4:
            raise KeyboardInterrupt
        return losses(*args)

    fresh()
    monkeypatch.setattr(control, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        control.train(again, DEPTH, 1, control.load_fomm(options), parts)
    monkeypatch.undo()
    network = control.train(again, DEPTH, 1, control.load_fomm(options), parts)
    (run,) = (run for run in done[0]["runs"] if (run["row"], run["seed"]) == (DEPTH.name, 1))
    assert control.measure(network, parts[2], options.frames, stand_in) == run["scores"]
    assert control.gates(network) == run["gates"]


def test_depth_is_of_the_image_and_the_constant_is_not(options):
    images = torch.rand(2, 3, 64, 64)
    nets = control.EnlargedDepth(options.depth, 64).eval(), control.ConstantDepth()
    depth, constant = (net(images) for net in nets)
    assert depth.shape == constant.shape == (2, 1, 64, 64)
    assert depth.std() > 1e-4 and constant.unique().tolist() == [0.5]
    assert nets[0](images) is depth  # the source's, for both halves
    assert torch.allclose(nets[0](images.flip(0)), depth.flip(0), atol=1e-6) and not torch.equal(*depth)


def test_nobody_is_trained_on_and_measured(options, done):
    parts = control.split(options, Path(options.output, "frames64"))
    persons = [set(part.by_identity) for part in parts]
    assert sorted(person for part in persons for person in part) == [f"person{i}" for i in range(4)]
    assert set(done[0]["persons"]) == persons[2]
    with pytest.raises(ValueError, match=r"^--data .*: expected more persons than --fold 9, got 4$"):
        control.split(Options(**{**vars(options), "fold": 9}), Path(options.output))


def test_frames_are_those_of_the_clips(options, done):
    for part in control.split(options, Path(options.output, "frames64")):
        for name in part.names:
            whole = read_clip(Path(options.data, "train", "clips", f"{name}.mp4"), 64)
            assert part.length(name) == 4 and np.array_equal(part.read(name, [3, 0]), whole[[6, 0]])


def test_what_is_done_is_not_done_again(options, done, monkeypatch, capsys):
    monkeypatch.setattr(control, "train", None)
    monkeypatch.setattr(extractors, "load", lambda *_: stand_in)
    control.main(options)
    assert json.loads(Path(options.output, "control.json").read_text()) == done[0]
    control.main(Options(table=str(Path(options.output, "control.json"))))
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :] == control.table(done[0]) + "\n"
    with pytest.raises(ValueError, match="was created with --images 4, got --images 6; "):
        control.main(Options(**{**vars(options), "images": 6}))


def found_of(shift: float, akd: float = 1.0) -> dict:
    """Results in which depth is `shift` better than both others; frame 2 has no landmarks in one run."""
    rng = np.random.default_rng(0)
    runs = []
    for row, seed in [(BASE, 0)] + [(row, seed) for seed in (0, 1) for row in ROWS]:
        l1 = np.array([0.1, 0.2, 0.6, 0.4]) - shift * (row is DEPTH) + 0.01 * seed
        points = [akd, akd, float("nan") if row is FLAT else 99.0, akd]
        gates = {"kp": 0.25, "bottleneck": 0.5} if row in (FLAT, DEPTH) else {}
        runs.append(dict(row=row.name, seed=seed, gates=gates, curve=[], scores={"l1": l1.tolist(), "akd": points}))
    rng.shuffle(runs)
    copy = {"l1": [1.0] * 4, "akd": [9.0] * 4}
    options = dict(size=64, base_images=8, images=4)
    return dict(options=options, machine=dict(processor="p", torch="2"), persons=list("aabc"), copy=copy, runs=runs)


def test_a_shift_is_the_difference_with_every_person_counted_once():
    lines = control.table(found_of(0.05)).splitlines()
    assert "2 seeds; 4 frames of 3 persons, AKD of 2." in lines[0]
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines[4:]}
    assert rows["copying the source"].endswith(" |  |  | 1.00000 | 9.000 |")
    assert rows["before"].endswith("| 0.38333 | 1.000 |")  # persons' means are 0.15, 0.6 and 0.4
    assert rows["depth"].startswith("| depth | 0.500 | 0.250 | 0.33833 ± 0.00707 | 1.000 ± 0.000 |")
    for pair in ("depth − without depth", "depth − constant map"):
        assert "| -0.05000 [-0.05000, -0.05000] | -0.05000, -0.05000 | +0.000 [+0.000, +0.000] |" in rows[pair]
    assert "| +0.00500 [+0.00500, +0.00500] | +0.00000, +0.01000 |" in rows["without depth − before"]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(data=None), "--data: expected a folder of clips, got none; .*prepare_clips.py .*"),
        (dict(seeds="0,a"), "--seeds: expected whole numbers from 0 on, separated by commas, got '0,a'"),
        (dict(fold=1), "--fold: expected at least 2, got 1"),
        (dict(size=96), "--size: expected a multiple of 64, got 96"),
        (dict(every=0), "--every: expected at least 1, got 0"),
        (dict(images=4), "--images 4: expected at least a --batch of 8"),
        (dict(data="nowhere"), "data 'nowhere': expected a folder with clips or folders of frames"),
        (dict(table=__file__), "--table .*: expected a control.json of this script, found other content"),
        (dict(table=str(PAGE.parent / "ablation.json")), "--table .*: expected a control.json of this script, .*"),
    ],
)
def test_a_mistake_shows_before_anything_is_made(wrong, message, tmp_path, monkeypatch):
    monkeypatch.setattr(extractors, "load", lambda *_: stand_in)
    with pytest.raises(ValueError, match=f"^{message}$"):
        control.main(Options(**{"data": "clips", "output": str(tmp_path / "out"), **wrong}))
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(options, tmp_path, capsys):
    fresh()
    control.main(Options(**{**vars(options), "output": str(tmp_path / "out"), "dry_run": True}))
    assert "dry run: one step of 2 images went well" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_the_page_shows_the_numbers_of_its_file():
    found = json.loads((PAGE.parent / "retrofit-control.json").read_text())
    assert control.table(found) in PAGE.read_text()
    assert Options(**found["options"]) == Options(), "the command on the page is that of its numbers"
