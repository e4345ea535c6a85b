"""Command lines of recipes: flags from the fields of a dataclass, and one line for a mistake."""

import dataclasses
import sys
from typing import Literal

import pytest

from depthaware.training.options import option, parse, required, run_recipe


@dataclasses.dataclass(frozen=True)
class Options:
    data: str = required("a folder of clips", "prepare_clips.py makes one")
    init: str | None = option(None, "weights to start from, 50 % of users have some")
    learning_rate: float | None = option(None, "highest rate; 2e-4 if not given")
    images: int = option(3, "length of the run")
    pose: Literal["alignment", "network"] = option("alignment", "source of the pose")
    preset: Literal["tiny", "paper"] | None = option(None, "size of the networks")
    automask: bool = option(True, "mask pixels that stand still")


def test_flags_are_the_fields():
    words = [
        "--data=x",
        "--learning-rate",
        "1e-3",
        "--images=-4",
        "--pose",
        "network",
        "--preset",
        "paper",
        "--no-automask",
    ]
    assert parse(Options, None, [*words, "--no-automask"]) == Options("x", None, 1e-3, -4, "network", "paper", False)
    assert parse(Options, None, ["--data", "x", "--automask"]) == Options("x")


def test_the_help_shows_every_flag_with_its_meaning_choices_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        parse(Options, "A recipe.", ["--help"])
    shown = capsys.readouterr().out
    assert not end.value.code and "A recipe." in shown
    for field in dataclasses.fields(Options):
        assert f"--{field.name.replace('_', '-')}" in shown and field.metadata["help"] in shown
    assert "{alignment,network}" in shown and "{tiny,paper}" in shown and "(default: 3)" in shown
    assert "(required)" in shown and "None" not in shown


WRONG = {
    "": "--data: expected a folder of clips, got none; prepare_clips.py makes one",
    "--data x --images 1.5": "--images: expected a whole number, got '1.5'",
    "--data x --images=a --images=b": "--images: expected a whole number, got 'b'",
    "--data x --learning_rate x": "--learning-rate: expected a number, got 'x'",
    "--data x --images": "--images: expected a whole number, got none",
    "--data x --pose fixed": "--pose: expected alignment or network, got 'fixed'",
    "--data x --preset=huge": "--preset: expected tiny or paper, got 'huge'",
    "--data --x": "--data: expected a string, got '--x'; write --data=VALUE for a value that begins with -",
    "--data x --learning-rat 1": "unknown option --learning-rat, expected --learning-rate?",
    "--data x more": "unknown option more, see --help",
    "--data=more more": "unknown option more, see --help",
    "--data=": "--data: expected a folder of clips, got none; prepare_clips.py makes one",
    "--data x --automask=yes": "--automask: expected no value, got 'yes'",
    "--data x --no-automask=yes": "--no-automask: expected no value, got 'yes'",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_line(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipe", *words.split()])
    with pytest.raises(SystemExit) as end:
        run_recipe(print, Options, None)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"error: {WRONG[words]}\n")


@pytest.mark.parametrize(
    "raised, code, line",
    [
        (ValueError("two\n  lines"), 2, "error: two lines"),
        (ImportError("needs x"), 2, "error: needs x"),
        (FileNotFoundError(2, "No such file or directory", "a.mp4"), 2, "error: a.mp4: No such file or directory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_end_with_one_line_and_a_code(raised, code, line, monkeypatch, capsys):
    def main(options: Options) -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["recipe", "--data=x"])
    with pytest.raises(SystemExit) as end:
        run_recipe(main, Options, None)
    assert end.value.code == code and capsys.readouterr().err == line + "\n"


def test_without_tyro_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(ImportError, match=r'^tyro is not installed: pip install "depthaware\[train\]"$'):
        parse(Options, None, ["--data=x"])
