"""`depthaware depth` for many images and videos."""

from pathlib import Path

import numpy as np
import pytest
from clips import draw_image, make_clip

from depthaware.cli.main import main
from depthaware.media.image import read_image, write_image
from depthaware.media.video import read_video


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


def test_no_input_and_no_other_result_is_replaced(here, tiny_weights, capsys):
    """That a file of no known suffix is a video shows only once it is open."""
    Path("a/c.mp4").rename("c.dat")
    make_clip(Path("a/c.mp4"), 2)
    write_image("a/p1_depth.png", draw_image(3, (64, 64)))
    before = Path("a/p1_depth.png").read_bytes()
    assert main(["depth", "a", "c.dat", "-o", "a", "--weights", tiny_weights]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 3 and "a/p1.png: output 'a/p1_depth.png': is the same file as" in errors[0]
    assert "c.dat: would have the result of a/c.mp4" in errors[1] and Path("a/p1_depth.png").read_bytes() == before
    assert read_video("a/c_depth.mp4").frames == 2


def test_an_input_too_large_for_the_memory_is_one_line(here, tiny_weights, capsys, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("depthaware.inference.depth_maps.depth_to_file", fail)
    assert main(["depth", "a", "-o", "out/", "--quiet", "--weights", tiny_weights]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and said[0].startswith("depthaware: error: a/p1.png: out of memory: try")


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
