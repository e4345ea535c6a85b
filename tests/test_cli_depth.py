"""`depthaware depth` for many images and videos."""

from pathlib import Path

import numpy as np
import pytest
from clips import draw_image, make_clip

from depthaware.cli.main import main
from depthaware.media.image import read_image, write_image


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Two images in a, one of them with a clip beside it, and a text."""
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for i in (1, 2):
        write_image(f"a/p{i}.png", draw_image(3 * i, (64, 64)))
    make_clip(Path("a/c.mp4"), 3)
    Path("text.png").write_text("I am no image.\n" * 100)
    return tmp_path


@pytest.mark.parametrize("inputs", [["a"], ["a/p*.png", "a/c.mp4"], ["a/p2.png", "a/*"]])
def test_every_image_and_video_gets_a_result_of_its_own(here, tiny_weights, capsys, inputs):
    assert main(["depth", *inputs, "-o", "out/", "--weights", tiny_weights]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in Path("out").iterdir()) == ["c_depth.mp4", "p1_depth.png", "p2_depth.png"]
    assert len(said) == 4 and said[-1] == "out: 3 written, 0 failed"
    assert main(["depth", "a/p1.png", "-o", "alone.png", "--weights", tiny_weights]) == 0
    assert np.array_equal(read_image("alone.png"), read_image("out/p1_depth.png"))


def test_what_fails_is_one_line_and_the_others_are_made(here, tiny_weights, capsys):
    assert main(["depth", "a/p1.png", "text.png", "absent.png", "--weights", tiny_weights]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("p1_depth.png: 64 x 64") and Path("p1_depth.png").exists()
    errors = [line for line in err.splitlines() if "error" in line]
    assert len(errors) == 3 and "text.png" in errors[0] and "absent.png" in errors[1] and "2 failed" in errors[2]


@pytest.mark.parametrize(
    "line, found",
    [
        ("a/p1.png a/p2.png -o one.png", "output 'one.png': is one file for 2 inputs, expected a folder"),
        ("a/p1.png b/p1.png", "would have one result"),
        ("empty -o out/", "empty: expected images or videos, found none"),
    ],
)
def test_wrong_paths_are_one_line_and_nothing_is_written(here, capsys, line, found):
    Path("empty").mkdir()
    assert main(["depth", *line.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and found in said and not Path("out").exists()
