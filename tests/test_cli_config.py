"""Options from a file, shell completion, and frames in a notebook."""

import subprocess
from argparse import ArgumentParser, Namespace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import draw_image

import depthaware
from depthaware.cli import animate, convert
from depthaware.cli.config import add_config, apply_config
from depthaware.cli.main import main
from depthaware.media.video import Frame, read_video


def parse(text: str, line: str, folder: Path, command=animate) -> Namespace:
    (folder / "run.toml").write_text(text)
    words = [*line.split(), "--config", str(folder / "run.toml")]
    parser = ArgumentParser()
    command.add(parser)
    add_config(parser)
    apply_config(parser, words)
    return parser.parse_args(words)


def test_a_file_of_options_stands_for_the_options_and_the_command_line_wins(tmp_path):
    text = (
        'batch-size = 4\nstrength = 0.5\nsource = ["a.png", "b.png"]\nfollow = true\nsize = "640x360"\ncompare = false'
    )
    given = parse(text, "", tmp_path)
    typed = "--batch-size 4 --strength 0.5 --source a.png b.png --follow --size 640x360"
    same = parse("", typed, tmp_path)
    assert given.configured.keys() == {"batch_size", "strength", "source", "follow", "size", "compare"}
    assert {**vars(given), "configured": 0} == {**vars(same), "configured": 0}
    won = parse(text, "--strength 2 --source c.png", tmp_path)
    assert (won.strength, won.source, won.batch_size) == (2, ["c.png"], 4)
    assert parse("batch_size = 3", "", tmp_path).batch_size == 3


@pytest.mark.parametrize("text, found", [("true", True), ("false", False)])
def test_an_option_that_can_be_denied_takes_both(text, found, tmp_path):
    assert parse("", "c.pth --output out", tmp_path, convert).align_corners is None
    assert parse(f"align-corners = {text}", "c.pth --output out", tmp_path, convert).align_corners is found
    assert (
        parse("align-corners = true", "c.pth --output out --no-align-corners", tmp_path, convert).align_corners is False
    )


def test_an_option_that_must_be_given_may_stand_in_the_file(tmp_path):
    assert parse("output = 'out'", "c.pth", tmp_path, convert).output == "out"


def test_the_option_may_be_shortened_and_the_file_begin_with_a_mark(capsys):
    Path("run.toml").write_text("\ufeffbatch-size = 0", "utf-8")
    assert main(["animate", "--conf=run.toml"]) == 2
    assert "batch_size: expected at least 1, got 0" in capsys.readouterr().err


def test_options_that_exclude_each_other_do_so_in_a_file(capsys):
    Path("run.toml").write_text("compare = true")
    Path("me.png").touch()
    assert main(["depth", "me.png", "--turntable", "--config", "run.toml"]) == 2
    assert "--compare, --turntable: expected one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, found",
    [
        ("batch-siz = 2", "'batch-siz' is no option of the command, expected 'batch-size'?"),
        ("quux = 2", "'quux' is no option of the command"),
        ("paths = ['a.png']", "'paths' is no option of the command"),
        ("follow = 1", "follow: expected true or false, got 1"),
        ("strength = true", "strength: expected text, a number or a list, got True"),
        ("[strength]\nx = 1", "strength: expected text, a number or a list"),
        ("source = [['a.png']]", "source: expected texts or numbers"),
        ("batch-size = 'four'", "argument --batch-size: invalid int value: 'four'"),
        ("mode = 'half'", "argument --mode: invalid choice: 'half'"),
        ("config = 'more.toml'", "'config' is no option"),
        ("= 2", "Invalid statement"),
        ("strength = 1\nstrength = 2", "Cannot overwrite a value"),
        ("batch-size = 1\nbatch_size = 2", "'batch_size': is given twice"),
        ("source = " + "[" * 9999, "maximum recursion depth"),
    ],
)
def test_a_wrong_file_of_options_is_one_line(text, found, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    assert main(["animate", "--config", str(tmp_path / "run.toml")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"run.toml: {found}" in said


def test_files_named_in_the_options_file_make_way_for_those_on_the_command_line(tmp_path, capsys):
    (tmp_path / "run.toml").write_text("source = 'a.png'")
    assert main(["animate", "--config", str(tmp_path / "run.toml")]) == 2
    assert main(["animate", "b.png", "--config", str(tmp_path / "run.toml")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "a.png: No such file" in first and "b.png: No such file" in second
    assert main(["animate", "b.png", "--source", "c.png"]) == 2
    assert "expected no SOURCE here besides --source" in capsys.readouterr().err
    assert main(["animate", "--config", "none.toml"]) == 2
    assert capsys.readouterr().err.splitlines() == ["depthaware: error: none.toml: No such file or directory"]


def test_the_completion_script_of_bash_knows_commands_and_options(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert end.value.code == 0 and subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "animate" in script and "--freeze-background" in script and "_shtab_compgen_files" in script


def test_show_plays_frames_at_their_times(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    images = [draw_image(i, (48, 64)) for i in range(5)]
    depthaware.show(images, fps=10)
    depthaware.show(Frame(image, Fraction(3 + i * i, 50)) for i, image in enumerate(images))
    times = []
    for video in shown:
        assert video.embed and video._repr_html_().startswith("<video controls loop autoplay muted")
        Path("shown.mp4").write_bytes(video.data)
        frames = list(read_video("shown.mp4"))
        assert np.abs(np.stack([frame.image for frame in frames]).astype(int) - images).mean() < 4
        times.append([frame.time for frame in frames])
    assert times == [[Fraction(i, 10) for i in range(5)], [Fraction(i * i, 50) for i in range(5)]]


def test_show_refuses_nothing_to_show_and_names_what_is_missing(monkeypatch):
    pytest.importorskip("IPython.display")
    with pytest.raises(ValueError, match="expected at least one, got none"):
        depthaware.show([])
    with pytest.raises(ValueError, match="fps: expected more than 0"):
        depthaware.show([draw_image()], fps=0)
    monkeypatch.setitem(__import__("sys").modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r'pip install "depthaware\[notebook\]"'):
        depthaware.show([draw_image()])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
