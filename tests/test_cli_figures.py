"""The commands that draw figures: what they write, and what they say when something is wrong."""

import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from conftest import TINY
from skimage.data import astronaut

from depthaware import DaGAN
from depthaware.cli.main import main
from depthaware.media.image import read_image, write_image
from depthaware.media.video import read_video
from depthaware.retrofit import fomm


@pytest.fixture(scope="module")
def files(tiny_weights, tiny_model, tmp_path_factory) -> Path:
    """A folder with images, clips and weights of every kind."""
    folder = tmp_path_factory.mktemp("figures")
    write_image(folder / "me.png", draw_image())
    write_image(folder / "you.png", draw_image(7, (64, 64)))
    write_image(folder / "face.png", np.ascontiguousarray(astronaut()[:256, 100:356]))
    make_clip(folder / "clip.mp4", 6)
    (folder / "text.png").write_text("I am no image.\n" * 100)
    (folder / "empty").mkdir()
    DaGAN(**TINY, attention="none").eval().save_pretrained(folder / "no_attention")
    DaGAN(**TINY | {"image_size": 128}).eval().save_pretrained(folder / "large")
    tiny_model.save_pretrained(folder / "runs" / "a" / "weights")
    torch.save(checkpoints.content(checkpoints.model(**checkpoints.FOMM, image_size=64)), folder / "fomm.pth.tar")
    pair = fomm.retrofit(*fomm.load_fomm(folder / "fomm.pth.tar"), tiny_model.depth_net)
    fomm.save_retrofit(folder / "retrofit", *pair)
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    """A current folder with links to the files, so that what is written is new."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "line, summary",
    [
        (
            "attention me.png clip.mp4 --points 20,20 40,30 --over result --fit pad --mode absolute",
            "attention.png: 1042 x 564, query points 1 at 20,20, 2 at 40,30",
        ),
        (
            "attention me.png you.png --points 20,20 --output a.jpg --fit crop",
            "a.jpg: 1042 x 564, query points 1 at 20,20",
        ),
        (
            "compare --source me.png you.png --driving clip.mp4 --frames 0 5 --all-pairs --fit crop",
            "comparison.png: 492 x 679, {tiny}",
        ),
        (
            "compare --source me.png you.png --driving clip.mp4 you.png --output a.webp --fit stretch",
            "a.webp: 492 x 347, {tiny}",
        ),
        ("compare --driving clip.mp4 --output a.mp4 --depth --fit pad", "a.mp4: 6 frames, 824 x 181, 25 fps, {tiny}"),
        ("depth me.png --compare", "me_depth.png: 128 x 48"),
        ("depth me.png --output a.glb", "a.glb: 64 x 48"),
        ("depth me.png --turntable", "me_turntable.png: 1566 x 279"),
        ("depth clip.mp4 --compare", "clip_depth.mp4: 6 frames, 128 x 48, 25 fps"),
    ],
)
def test_a_figure_is_written_and_described(here, tiny_weights, capsys, line, summary):
    assert main([*line.split(), "--weights", tiny_weights, "--quiet"]) == 0
    assert main([*line.split(), "--weights", tiny_weights]) == 0
    expected = summary.format(tiny=Path(tiny_weights).name)
    assert capsys.readouterr() == (expected + "\n", "")
    written = Path(expected.split(":")[0])
    assert read_video(written).frames == 6 if written.suffix == ".mp4" else written.stat().st_size > 0


def test_points_of_the_face_are_found(here, tiny_weights, capsys):
    assert main(["attention", "face.png", "clip.mp4", "--frame", "5", "--weights", tiny_weights]) == 0
    said = capsys.readouterr().out
    assert said.startswith("attention.png: 1304 x 564, query points 1 at 10") and "5 at " in said
    assert main(["attention", "me.png", "clip.mp4", "--weights", tiny_weights]) == 2
    assert "found no face in the source" in capsys.readouterr().err


def test_models_of_every_kind_stand_side_by_side(here, tiny_weights, capsys):
    assert main(["convert", "fomm.pth.tar", "--output", "converted"]) == 0
    config = Path("converted/config.json")
    config.write_text(config.read_text().replace('"image_size": 256', '"image_size": 64'))
    capsys.readouterr()
    weights = f"ours={tiny_weights} converted with=retrofit runs/a/weights no_attention"
    line = f"compare --weights {weights} --fomm fomm.pth.tar --fomm-depth {tiny_weights} --driving clip.mp4 --fit crop"
    assert main(line.split()) == 0
    assert capsys.readouterr().out == "comparison.png: 1156 x 181, ours, converted, with, a, no_attention\n"
    columns = read_image("comparison.png")[21:].astype(int)
    converted, retrofit = (columns[:, left : left + 160] for left in (3 * 166, 4 * 166))
    assert abs(converted - retrofit).max() <= 1  # before training


WRONG_AT_ONCE = {
    "attention missing.png": "missing.png: No such file",
    "attention me.png missing.mp4": "missing.mp4: No such file",
    "attention me.png clip.mp4 --points 64,0": "point 64,0: outside of me.png, which has 64 x 48 pixels",
    "attention me.png clip.mp4 --points 3,48": "point 3,48: outside of me.png, which has 64 x 48 pixels",
    "attention me.png clip.mp4 --points 3,4 1,nan": "point 1,nan: outside",
    "attention me.png clip.mp4 --points 3": "argument --points: expected x,y in pixels",
    "attention me.png clip.mp4 --points 3,x": "argument --points: expected x,y in pixels",
    "attention me.png clip.mp4 --frame -1": "--frame: expected the number of a frame, from 0, got -1",
    "attention me.png --weights absent": "weights 'absent': expected a folder",
    "attention me.png --weights no_attention": "weights 'no_attention': expected a model with attention",
    "attention me.png --output a.gif": "output 'a.gif': expected a name that ends in .png",
    "attention me.png --output me.png": "is the same file",
    "compare --weights absent": "weights 'absent': expected a folder",
    "compare --weights a=b=c": "weights 'b=c': expected a folder",
    "compare --weights dagan-tiny large": "expected models of one image size, got dagan-tiny 256, large 128",
    "compare --weights dagan-tiny dagan-tiny": "are both called 'dagan-tiny', expected NAME=WEIGHTS",
    "compare --weights retrofit": "weights 'retrofit': are a retrofit, expected --fomm CHECKPOINT",
    "compare --weights retrofit --fomm missing.pth": "missing.pth: No such file",
    "compare --source me.png missing.png": "missing.png: No such file",
    "compare --source me.png you.png --driving clip.mp4 clip.mp4 clip.mp4": "expected as many of both, one of either",
    "compare --frames -1": "--frames: expected numbers from 0, got -1",
    "compare --frames 1 --output a.mp4": "--frames: are for a sheet",
    "compare --output a.avi": "output 'a.avi': expected a name that ends in .png",
    "compare --source me.png --output me.png": "is the same file",
    "depth me.png --compare --output a.ply": "output 'a.ply': expected a name that ends in .png",
    "depth me.png --compare --turntable": "--compare, --turntable: expected one of them",
}
WRONG = {
    "attention text.png --points 3,3": "text.png: is text",
    "attention me.png text.png --points 3,3": "text.png: is text",
    "attention me.png clip.mp4 --points 3,3 --fit crop": "point 3,3: expected x from 8 to 55 and y from 0 to 47",
    "attention me.png clip.mp4 --points 20,20 --frame 6": "--frame: expected 0 to 5 of clip.mp4, got 6",
    "attention me.png clip.mp4 --points 20,20 --weights empty": "empty: expected config.json",
    "compare --source me.png --driving clip.mp4 --frames 6": "clip.mp4: expected frames from 0 to 5, got 6",
    "compare --source me.png --driving you.png --output a.mp4": "a.mp4: expected driving videos",
    "compare --source text.png": "text.png: is text",
    "compare --driving text.png": "text.png: is text",
    "compare --weights =x": "--weights =x: expected NAME=WEIGHTS, got no name",
    "compare --weights empty": "empty: expected config.json",
    "compare --weights retrofit --fomm text.png": "text.png",
    "depth clip.mp4 --turntable": "--turntable: expected an image, clip.mp4 is a video",
    "depth clip.mp4 --output a.glb": "output 'a.glb': expected a name that ends in .mp4",
    "depth me.png --compare --output a.mp4": "output 'a.mp4': expected a name that ends in .png",
}


def test_what_can_be_known_before_pytorch_is_loaded_is_said_before(here):
    code = f"""
import sys
from depthaware.cli.main import main
for line in {list(WRONG_AT_ONCE)}:
    print(main(line.split()), sorted({{"torch", "av"}} & set(sys.modules)))"""
    before = sorted(here.iterdir())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2 []\n" * len(WRONG_AT_ONCE), done
    for line, message in zip(done.stderr.splitlines(), WRONG_AT_ONCE.values(), strict=True):
        assert line.startswith("depthaware: error: ") and message in line
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("line", WRONG)
def test_the_rest_is_one_line_as_well(here, tiny_weights, capsys, line):
    before = sorted(here.iterdir())
    weights = [] if "--weights" in line else ["--weights", tiny_weights]
    assert main([*line.split(), *weights]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("depthaware: error: ") and WRONG[line] in captured.err
    assert sorted(here.iterdir()) == before


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert "attention" in listed and "compare" in listed
