"""Recipes in examples/ stand alone, and explain every flag."""

import csv
import dataclasses
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import benchmark_tables
import measure_startup
import numpy as np
import pytest
import retrofit_fomm
import test_checkpoint as checkpoints
import torch
import train_dagan
import train_depth
from clips import make_clip

import depthaware
from depthaware import DaGAN, SelfSupDepthNet
from depthaware.losses import self_supervised_depth_loss
from depthaware.training.options import parse, run_recipe
from depthaware.training.stage1 import NETWORKS

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPES = sorted(path.name for path in EXAMPLES.glob("*.py"))
SCRIPTS = sorted(
    str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py") if "class Options" in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_a_help_text_and_its_choices(script, monkeypatch, capsys):
    options = importlib.import_module(Path(script).stem).Options
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        parse(options, None, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    kinds = get_type_hints(options)
    for field in dataclasses.fields(options):
        assert len(field.metadata.get("help", "")) > 5, field.name
        assert f"--{field.name.replace('_', '-')}" in shown and field.metadata["help"] in shown
        for kind in (kinds[field.name], *get_args(kinds[field.name])):
            if get_origin(kind) is Literal:
                assert f"{{{','.join(map(str, get_args(kind)))}}}" in shown, field.name


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with all that recipes need: clips of two splits, raw videos, a depth network, a FOMM."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [("name", "kind", "split", "identity")]
    for split in ("train", "test"):
        (folder / "clips" / split / "clips").mkdir(parents=True)
        for number in range(2):
            name = f"{split}{number}"
            coarse = np.random.default_rng([number, len(split)]).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            images = [np.roll(coarse.repeat(8, 0).repeat(8, 1), 3 * i, axis=1) for i in range(8)]
            make_clip(folder / "clips" / split / "clips" / f"{name}.mp4", 8, (64, 64), images=images)
            rows.append((name, "clip", split, name))
    with open(folder / "clips" / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "raw" / "person").mkdir(parents=True)
    shutil.copy(folder / "clips" / "train" / "clips" / "train0.mp4", folder / "raw" / "person" / "video.mp4")
    encoder, widths = NETWORKS["tiny"]
    SelfSupDepthNet(encoder, decoder_channels=widths).save_pretrained(folder / "depth")
    torch.save(checkpoints.content(checkpoints.model(**checkpoints.FOMM)), folder / "fomm.pth.tar")
    return folder


SMALL = "--data {0}/clips --size 64 --batch 2 --images 4 --threads 1 --cpu"
FLAGS = {
    "ablation.py": f"{SMALL} --depth {{0}}/depth --hold-out 0 --metrics l1 --every 4",
    "prepare_clips.py": "--data {0}/raw --cropped --layout folders --size 64 --min-side 32 --min-seconds 0.1",
    "retrofit_fomm.py": f"{SMALL} --checkpoint {{0}}/fomm.pth.tar",
    "train_dagan.py": f"{SMALL} --depth {{0}}/depth --hold-out 0 --motion-size 16 --features none",
    "train_depth.py": f"{SMALL} --hold-out 0",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_alone_in_a_folder_runs(recipe, inputs, tmp_path):
    """With nothing beside it, from a folder that is not the repository's; a dry run leaves nothing."""
    shutil.copy(EXAMPLES / recipe, tmp_path)
    command = [sys.executable, recipe, *FLAGS[recipe].format(inputs).split(), "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(depthaware.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    before = sorted(inputs.rglob("*"))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dry run" in done.stdout.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == [recipe] and sorted(inputs.rglob("*")) == before


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_is_required_and_the_error_says_how_to_get_some(recipe, monkeypatch, capsys):
    module = importlib.import_module(Path(recipe).stem)
    monkeypatch.setattr(sys, "argv", [recipe])
    with pytest.raises(SystemExit) as end:
        run_recipe(module.main, module.Options, None)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --data: expected a folder of ") and "docs/" not in line
    assert ("videos with the recipe prepare_clips.py of depthaware" in line) != (recipe == "prepare_clips.py")


@pytest.mark.parametrize(
    "flag, expected",
    {
        "--focal=0": "--focal: expected more than 0, got 0.0",
        "--near=0": "--near: expected more than 0, got 0.0",
        "--image-scales=20": "--image-scales: expected the smallest image to be 2 pixels or more, got 20 scales of",
        "--image-scales=0": "--image-scales: expected at least 1, got 0",
        "--ema=1": "--ema: expected at least 0 and less than 1, got 1.0",
        "--ema=-0.1": "--ema: expected at least 0 and less than 1, got -0.1",
        "--ema=nan": "--ema: expected at least 0 and less than 1, got nan",
        "--cache-gb=-1": "--cache-gb: expected at least 0, got -1.0",
        "--clip=-1": "--clip: expected at least 0, got -1.0",
        "--min-motion=-1": "--min-motion: expected at least 0, got -1.0",
        "--size=0": "--size: expected at least 1, got 0",
        "--neighbors=3": "--neighbors: expected 1 or 2, got 3",
        "--alpha=1.5": "--alpha: expected at least 0 and at most 1, got 1.5",
    }.items(),
)
def test_numbers_out_of_range_are_one_line(flag, expected):
    with pytest.raises(ValueError, match=f"^{expected}"):
        train_depth.resolve(parse(train_depth.Options, None, ["--data=x", "--size=64", flag]))


RETROFIT = {f"--{name} 0": f"--{name}: expected at least 1, got 0" for name in ("threads", "batch", "every", "size")}
RETROFIT |= {"--images 0": "--images: expected at least 1, got 0"}
RETROFIT |= {"--output file --dry-run": "--output file: is a file, expected a folder"}


@pytest.mark.parametrize("flags", RETROFIT)
def test_the_retrofit_checks_its_options_at_once(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    monkeypatch.setattr(sys, "argv", ["retrofit_fomm.py", "--data=x", "--checkpoint=x", *flags.split()])
    with pytest.raises(SystemExit) as end:
        run_recipe(retrofit_fomm.main, retrofit_fomm.Options, None)
    assert end.value.code == 2 and capsys.readouterr().err == f"error: {RETROFIT[flags]}\n"


@pytest.mark.parametrize("script", [benchmark_tables, measure_startup])
def test_a_typo_measures_and_writes_nothing(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "main", lambda options: pytest.fail("was called"))
    monkeypatch.setattr(sys, "argv", ["script", "--hepl"])
    with pytest.raises(SystemExit) as end:
        run_recipe(script.main, script.Options, None)
    assert end.value.code == 2 and "unknown option --hepl" in capsys.readouterr().err


def test_the_page_of_benchmarks_is_filled_from_the_files_beside_it(tmp_path):
    (tmp_path / "cpu.json").write_text('{"machine": {"torch": "2"}, "animate": {"plain": {"milliseconds": 12.5}}}')
    (tmp_path / "page.md").write_text("<!-- tables: cpu.json -->\nold\n<!-- end -->\n")
    benchmark_tables.main(benchmark_tables.Options(page=str(tmp_path / "page.md")))
    assert "| plain | 12.5 |" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize("recipe", [train_depth, train_dagan], ids=["depth", "dagan"])
@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_explicit_flags_win_over_the_preset_which_fills_in_the_rest(recipe, preset):
    values = recipe.PRESETS[preset]
    found = dataclasses.asdict(recipe.resolve(parse(recipe.Options, None, ["--data=x", f"--preset={preset}"])))
    assert {name: found[name] for name in values} == values and found["learning_rate"] > 0
    words = ["--data=x", f"--preset={preset}", "--size=96", "--learning-rate=0.5"]
    found = dataclasses.asdict(recipe.resolve(parse(recipe.Options, None, words)))
    assert {name: found[name] for name in values} == values | {"size": 96} | (
        {"learning_rate": 0.5} if "learning_rate" in values else {}
    )
    assert found["learning_rate"] == 0.5


def test_the_paper_preset_is_the_paper():
    assert train_depth.PRESETS["paper"]["size"] == train_dagan.PRESETS["paper"]["size"] == DaGAN().image_size == 256
    assert train_dagan.PRESETS["paper"]["motion_size"] == DaGAN().config["scale_factor"] * 256
    defaults = {name: p.default for name, p in inspect.signature(self_supervised_depth_loss).parameters.items()}
    depth, dagan = train_depth.PRESETS["paper"], train_dagan.PRESETS["paper"]
    assert depth["neighbors"] == depth["max_gap"] == 1 and train_depth.Options("x").alpha == 0.8
    assert NETWORKS["paper"][0].startswith("resnet18.") and depth["encoder_weights"] == "imagenet"
    assert (dagan["attention_form"], dagan["estimate_jacobian"]) == ("paper", "no")
    found = depth["smoothness"], depth["near"], depth["far"]
    assert found == (defaults["smoothness"], defaults["min_depth"], defaults["max_depth"])
    assert depth["learning_rate"] == 1e-4 and depth["disparity_scales"] == 4 and depth["pose"] == "network"


def test_sizes_come_from_the_flags_then_from_init_then_from_the_preset(tiny_model, tiny_weights):
    sizes = tiny_model.image_size, round(tiny_model.image_size * tiny_model.config["scale_factor"])
    init = ["--data=x", f"--init={tiny_weights}", "--num-keypoints=5", "--preset=paper"]
    for words, expected in ((init, sizes), ([*init, "--size=128"], (128, sizes[1]))):
        found = train_dagan.resolve(parse(train_dagan.Options, None, words))
        assert (found.size, found.motion_size) == expected
        assert found.depth is None and found.learning_rate == 2e-5
        assert (found.attention_form, found.estimate_jacobian) == ("released", "yes")  # of --init, not of the preset
    assert train_dagan.resolve(train_dagan.Options("x")).depth == "runs/depth"
    with pytest.raises(ValueError, match=r"^--attention-form paper: .* has released, expected the same$"):
        train_dagan.resolve(parse(train_dagan.Options, None, [*init, "--attention-form=paper"]))
    with pytest.raises(ValueError, match=r"^--num-keypoints 15: .* has 5, expected the same$"):
        train_dagan.resolve(train_dagan.Options("x", init=tiny_weights))
