"""A run that was interrupted is resumed as if it had not been."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import train_dagan
import train_depth
from recipes import in_processes, shrink, stats, train, weights, write_data

SHORT = dict(images=12, checkpoint_every=4, sample_every=6, hold_out=1)
each_recipe = pytest.mark.parametrize("recipe", [train_depth, train_dagan], ids=["depth", "dagan"])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """Of each recipe, a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        for recipe in (train_depth, train_dagan):
            train(recipe, data, folder / recipe.__name__, **SHORT)
    return folder


def assert_same(run: Path, whole: Path) -> None:
    found, expected = weights(run), weights(whole)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert stats(run) == stats(whole)
    for path in (*whole.rglob("*.safetensors"), *whole.rglob("*.png")):
        assert (run / path.relative_to(whole)).read_bytes() == path.read_bytes()


def killed_at(owner: Any, name: str, call: int, after: Callable[..., None] = lambda *_: None) -> Callable[..., None]:
    """`train` that is killed at the n-th call of a function, having done `after` in its place."""

    def work(*arguments: Any, **changes: Any) -> None:
        original, calls = getattr(owner, name), iter(range(1, call))

        def function(*arguments: Any, **changes: Any) -> Any:
            if next(calls, None) is None:
                after(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **changes)

        setattr(owner, name, function)
        train(*arguments, **SHORT, **changes)

    return work


def write_half(content: object, path: Path) -> None:
    path.write_bytes(bytes(100))


MOMENTS = {
    "in the first step": killed_at(torch.optim.Adam, "step", 1),
    "while a checkpoint is written": killed_at(torch, "save", 1, write_half),
    "between the last metrics and a checkpoint": killed_at(torch, "save", 1),
    "while the next is written": killed_at(torch, "save", 2, write_half),
    "in a later step": killed_at(torch.optim.Adam, "step", 2),
    "while the last is written": killed_at(torch, "save", 1, write_half),
}


@each_recipe
def test_killed_again_and_again_it_ends_the_same(recipe, data, whole, tmp_path):
    for moment, work in MOMENTS.items():
        assert in_processes(1, work, recipe, data, tmp_path) == [-signal.SIGKILL], moment
    duration = json.loads((whole / recipe.__name__ / "stats.jsonl").read_text().splitlines()[-1])["seconds"]
    for share in np.random.default_rng().random(2):  # any moment will do, so let it be another one each time
        in_processes(1, train, recipe, data, tmp_path, SHORT, seconds=share * duration)
    train(recipe, data, tmp_path, **SHORT)
    assert_same(tmp_path, whole / recipe.__name__)
    assert not list((tmp_path / "checkpoints").glob(".*"))


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))


@each_recipe
def test_a_finished_run_started_again_changes_nothing(recipe, data, whole, tmp_path, capsys):
    run = copied(whole / recipe.__name__, tmp_path / "run")
    train(recipe, data, run, **SHORT)
    assert_same(run, whole / recipe.__name__)
    assert "the weights after 12 images" in capsys.readouterr().out.splitlines()[-1]


DAMAGES = {
    "cut off": lambda content: content[:-1000],
    "the first bytes zeroed": lambda content: bytes(300) + content[300:],
    "the middle zeroed": lambda content: (
        content[: len(content) // 2] + bytes(3000) + content[len(content) // 2 + 3000 :]
    ),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, data, whole, tmp_path, capsys):
    run = copied(whole / "train_depth", tmp_path / "run")
    last = run / "checkpoints" / "000000012.pt"
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    train(train_depth, data, run, **SHORT)
    assert f"{last}: is not a whole checkpoint, going back to the one before\n" in capsys.readouterr().out
    assert_same(run, whole / "train_depth")


def test_a_line_of_metrics_cut_off_is_written_again(data, whole, tmp_path):
    run = copied(whole / "train_depth", tmp_path / "run")
    (run / "checkpoints" / "000000012.pt").unlink()
    lines = (run / "stats.jsonl").read_text()
    (run / "stats.jsonl").write_text(lines[: len(lines) - 40])
    train(train_depth, data, run, **SHORT)
    assert_same(run, whole / "train_depth")


@pytest.mark.parametrize("keep", [1, 2])
def test_the_last_checkpoints_are_kept(data, tmp_path, keep):
    train(train_depth, data, tmp_path, images=8, checkpoint_every=2, keep=keep)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000006.pt", "000000008.pt"][-keep:]


def test_a_checkpoint_cut_off_does_not_outlive_whole_ones(data, tmp_path):
    train(train_depth, data, tmp_path, images=8, checkpoint_every=4)
    (tmp_path / "checkpoints" / "000000008.pt").write_bytes(b"cut off")
    train(train_depth, data, tmp_path, images=8, checkpoint_every=2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == ["000000008.pt"]
    assert weights(tmp_path)


@pytest.mark.parametrize(
    "recipe, change, flag",
    [(train_depth, {"learning_rate": 1e-3}, "--learning-rate"), (train_dagan, {"num_keypoints": 6}, "--num-keypoints")],
)
def test_other_options_are_named(data, whole, tmp_path, recipe: ModuleType, change, flag):
    run = copied(whole / recipe.__name__, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = rf"checkpoints/000000012.pt: was created with {flag} .*, got {flag} .*; resume with the same options"
    with pytest.raises(ValueError, match=message):
        train(recipe, data, run, **SHORT, **change)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_precision_is_that_of_the_start(data, tmp_path, monkeypatch):
    """auto is written as what it stood for; where it stands for another one, the run is refused."""
    monkeypatch.setattr("depthaware.training.precision.best_dtype", lambda device: torch.float32)
    train(train_depth, data, tmp_path, images=2, precision="auto")
    assert json.loads((tmp_path / "options.json").read_text())["precision"] == "float32"
    train(train_depth, data, tmp_path, images=2, precision="float32")
    monkeypatch.setattr("depthaware.training.precision.best_dtype", lambda device: torch.bfloat16)
    with pytest.raises(ValueError, match="was created with --precision float32, got --precision bfloat16; resume with"):
        train(train_depth, data, tmp_path, images=2, precision="auto")


def test_more_threads_and_other_intervals_are_no_other_options(data, whole, tmp_path):
    run = copied(whole / "train_depth", tmp_path / "run")
    train(train_depth, data, run, **SHORT | {"sample_every": 2, "checkpoint_every": 2, "log_every": 4, "threads": 2})
    assert json.loads((run / "options.json").read_text())["threads"] == 2


@pytest.mark.parametrize(
    "content, message",
    [
        (lambda whole: torch.load(whole / "train_depth/checkpoints/000000012.pt"), "was created with --"),
        (lambda _: {"weights": torch.ones(1)}, "is no checkpoint of a training run"),
        (lambda _: [torch.ones(1)], "expected a checkpoint \\(a dict\\), found a list"),
    ],
    ids=["of the other stage", "of something else", "a list"],
)
def test_what_is_no_checkpoint_of_this_recipe_is_refused(data, whole, tmp_path, content, message):
    (tmp_path / "checkpoints").mkdir()
    torch.save(content(whole), tmp_path / "checkpoints" / "000000012.pt")
    with pytest.raises(ValueError, match=message):
        train(train_dagan, data, tmp_path, **SHORT)
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoints", "000000012.pt"]
