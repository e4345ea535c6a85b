"""The command, above all when something is wrong."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip, packets, times
from safetensors.torch import load_file, save_file

from depthaware.cli.main import main
from depthaware.media.image import read_image, write_image
from depthaware.media.video import read_video


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder with a portrait and a clip in it."""
    monkeypatch.chdir(tmp_path)
    write_image("me.png", draw_image())
    make_clip(Path("clip.mp4"), audio="aac")
    return tmp_path


def test_animate_says_what_it_wrote(here, tiny_weights, capsys):
    files = ["--source", "me.png", "--driving", "clip.mp4", "--output", "out.mp4"]
    assert main(["animate", *files, "--weights", tiny_weights]) == 0
    captured = capsys.readouterr()
    wrote, how = captured.out.splitlines()
    assert wrote == "out.mp4: 12 frames, 64 x 64, 25 fps, sound copied"
    assert how.startswith("optimizations: batch norms folded, up-sampling in phases")
    assert re.findall("no face found in the (.*):", captured.err) == ["source image", "driving video"]
    assert times(Path("out.mp4")) == times(Path("clip.mp4"))
    assert packets(Path("out.mp4"), "audio") == packets(Path("clip.mp4"), "audio")


def test_animate_without_options_but_weights_uses_the_bundled_media(here, tiny_weights, capsys):
    assert main(["animate", "--weights", tiny_weights]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("animation.mp4: 150 frames, 256 x 256, 25 fps, without sound\n") and "initial frame" in err


def test_every_option_together(here, tiny_weights, capsys):
    options = (
        "--mode absolute --no-adaptive-scale --initial-frame best --fit pad --device cpu --dtype bfloat16 "
        "--batch-size 5 --compare --save-depth depth.mp4 --audio none --quiet"
    )
    assert main(["animate", "--driving", "clip.mp4", "--weights", tiny_weights, *options.split()]) == 0
    assert capsys.readouterr() == ("", "")
    assert read_video("animation.mp4").size == (64, 192)
    assert read_video("depth.mp4").frames == 12


@pytest.mark.parametrize(
    "input, output, summary",
    [
        ("me.png", None, "me_depth.png: 64 x 48"),
        ("me.png", "a.ply", "a.ply: 64 x 48"),
        ("clip.mp4", None, "clip_depth.mp4: 12 frames, 64 x 48, 25 fps"),
    ],
)
def test_depth(here, tiny_weights, capsys, input, output, summary):
    assert main(["depth", input, "--weights", tiny_weights, *(["--output", output] if output else [])]) == 0
    assert capsys.readouterr().out == summary + "\n"


def test_depth_of_a_folder_is_named_after_it(here, tiny_weights):
    os.mkdir("shots") or write_image("shots/1.png", draw_image())
    assert main(["depth", "shots", "--weights", tiny_weights, "--fps", "10"]) == 0
    assert read_video("shots_depth.mp4").rate == 10


def test_other_sound_is_announced(here, tiny_weights, capsys):
    make_clip(Path("pcm.mov"), audio="pcm_s16le")
    assert main(["animate", "--driving", "pcm.mov", "--weights", tiny_weights]) == 0
    assert capsys.readouterr().out.startswith("animation.mp4: 12 frames, 256 x 256, 25 fps, sound pcm_s16le made AAC\n")


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("depthaware ")


def test_help_loads_nothing_heavy():
    code = """
import sys
from depthaware.cli.main import main
try:
    main(["animate", "--help"])
except SystemExit:
    print(sorted({"torch", "av", "numpy"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n"), done


WRONG_AT_ONCE = [
    "animate --source missing.png",
    "animate --driving missing.mp4",
    "animate --output out.avi",
    "animate --save-depth out.png",
    "animate --batch-size 0",
    "animate --weights absent",
    "animate --backend onnxruntime --compile",
    "animate --backend onnxruntime --resolution 512",
    "live --camera missing.mp4",
    "depth missing.png",
    "depth --output out.txt me.png",
    "convert missing.pth --output new",
    "convert me.png --depth-dir missing --output new",
    "export --output new --size 0",
    "export --output new --calibrate missing.mp4",
    "evaluate --data missing --protocol same-identity --output new",
    "evaluate --data . --protocol missing.csv --output new",
]


def test_wrong_paths_and_options_are_reported_before_pytorch_is_loaded(here):
    code = f"""
import sys
from depthaware.cli.main import main
for line in {WRONG_AT_ONCE}:
    print(main(line.split()), sorted({{"torch", "av", "numpy"}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2 []\n" * len(WRONG_AT_ONCE), done
    assert done.stderr.count("\n") == done.stderr.count("depthaware: error: ") == len(WRONG_AT_ONCE)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_loading_is_announced_unless_quiet(here, quiet):
    Path("bad.pth").write_bytes(b"\x80\2 no checkpoint")
    out, err = run(["convert", "bad.pth", "--output", "new", *quiet]).communicate(timeout=300)
    assert out == "" and err.startswith("depthaware: error: " if quiet else f"{LOADING}depthaware: error: ")


def test_a_folder_named_like_the_bundled_weights_is_one_line(here, tiny_weights, capsys):
    shutil.copytree(tiny_weights, "dagan-tiny")
    line = "animate --driving clip.mp4 --save-depth d.mp4 --weights"
    assert main([*line.split(), "./dagan-tiny", "--quiet"]) == 0
    assert capsys.readouterr().err == "" and read_video("d.mp4").size == (64, 64)
    assert main(["depth", "me.png", "--weights", "dagan-tiny"]) == 0
    expected = "depthaware: warning: weights 'dagan-tiny': are the bundled ones, for the folder write './dagan-tiny'\n"
    assert capsys.readouterr().err == expected


def test_a_missing_package_is_one_line(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", "--output", "new"]) == 2
    message = 'depthaware: error: onnxruntime is not installed: pip install "depthaware[export]"\n'
    assert capsys.readouterr().err == message


def cut(path: str, part: float, source: str) -> None:
    data = Path(source).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * part)])


def bad_weights(name: str, weights: str, **values: float) -> None:
    shutil.copytree(weights, name)
    tensors = load_file(f"{name}/model.safetensors")
    key = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    save_file({**tensors, key: torch.full_like(tensors[key], values["fill"])}, f"{name}/model.safetensors")


def prepare(weights: str) -> None:
    """Everything that can be wrong with a file."""
    Path("empty.png").touch()
    Path("empty.mp4").touch()
    Path("text.png").write_text("I am no image.\n" * 100)
    Path("text.mp4").write_text("I am no video.\n" * 100)
    Path("noise.mp4").write_bytes(np.random.default_rng(0).bytes(9999))
    Path("list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    cut("cut.png", 0.6, "me.png")
    cut("cut.mp4", 0.6, "clip.mp4")
    make_clip(Path("long.mp4"), 60, (128, 128), options={"movflags": "faststart"})
    cut("cut_behind_its_index.mp4", 0.6, "long.mp4")
    make_clip(Path("long.webm"), 60, (128, 128), codec="libvpx")
    cut("cut.webm", 0.6, "long.webm")
    make_clip(Path("no_frames.mp4"), frames=0, audio="aac")
    make_clip(Path("animated.gif"), codec="gif")
    os.mkdir("folder")
    os.mkdir("mixed")
    write_image("mixed/1.png", draw_image())
    cut("mixed/2.png", 0.6, "me.png")
    bad_weights("nan", weights, fill=float("nan"))
    shutil.copytree(weights, "cut_weights")
    cut("cut_weights/model.safetensors", 0.6, f"{weights}/model.safetensors")
    shutil.copytree(weights, "other_config")
    config = Path("other_config/config.json")
    config.write_text(config.read_text().replace('"num_keypoints": 5', '"num_keypoints": 6'))
    shutil.copytree(weights, "no_depth")


BAD = {
    # the source
    "animate --source missing.png": "missing.png: No such file or directory",
    "animate --source empty.png": "empty.png: the file is empty",
    "animate --source text.png": "text.png: is text, expected an image (PNG, JPEG",
    "animate --source cut.png": "cut.png: is damaged or cut short",
    "animate --source clip.mp4": "clip.mp4: is an MP4 video, expected an image",
    "animate --source folder": "folder: found no images",
    # the driver
    "animate --driving missing.mp4": "missing.mp4: No such file or directory",
    "animate --driving empty.mp4": "empty.mp4: the file is empty",
    "animate --driving text.mp4": "text.mp4: is text, expected a video",
    "animate --driving noise.mp4": "noise.mp4: damaged",
    "animate --driving list.m3u8": "list.m3u8: is a playlist",
    "animate --driving cut.mp4": "cut.mp4: damaged, cut short",
    "animate --driving cut_behind_its_index.mp4 --strict": "cut_behind_its_index.mp4: is cut short",
    "animate --driving cut.webm --strict": "cut.webm: is cut short",
    "animate --driving no_frames.mp4": "no_frames.mp4: has no",
    "animate --driving folder": "folder: found no images",
    "animate --driving mixed": "mixed/2.png: is damaged or cut short",
    "animate --driving folder/*.png": "folder/*.png: found no images",
    "animate --driving %03d.png": "%03d.png: found no images",
    "animate --driving mixed --fps 0": "rate: expected",
    "animate --driving mixed --fps 0.0001": "rate: expected",
    "animate --driving mixed --fps nan": "rate: expected",
    # the output
    "animate --output out.avi": "output 'out.avi': expected a name that ends in .mp4 or .mov",
    "animate --output out": "output 'out': expected a name that ends in .mp4",
    "animate --output me.png/out.mp4": "output 'me.png/out.mp4': 'me.png' is a file, expected a folder",
    "animate --output folder.mp4": "output 'folder.mp4': is a folder",
    "animate --driving clip.mp4 --output ./clip.mp4": "output 'clip.mp4': is the same file as 'clip.mp4'",
    "animate --save-depth animation.mp4": "output 'animation.mp4': is the same file as 'animation.mp4'",
    "animate --save-depth depth.png": "output 'depth.png': expected a name that ends in .mp4",
    # the options
    "animate --initial-frame 12 --driving clip.mp4": "initial_frame: expected 'auto', 'best' or one of",
    "animate --initial-frame -1": "argument --initial-frame: expected",
    "animate --initial-frame first": "argument --initial-frame: expected auto, best or a number from 0",
    "animate --batch-size 0": "batch_size: expected at least 1, got 0",
    "animate --batch-size many": "argument --batch-size: invalid int value: 'many'",
    "animate --device gpu": "--device gpu: not available here",
    "animate --device meta": "--device meta: not available here",
    "animate --device cuda:99": "--device cuda:99: not available here",
    "animate --dtype int8": "argument --dtype: invalid choice: 'int8'",
    "animate --mode sideways": "argument --mode: invalid choice",
    "animate --fit squeeze": "argument --fit: invalid choice",
    "animate --nonsense": "unrecognized arguments: --nonsense",
    "draw": "invalid choice: 'draw'",
    # the weights
    "animate --weights absent": "weights 'absent'",
    "animate --weights folder": "folder",
    "animate --weights nan": "not finite",
    "animate --weights cut_weights": "not a whole safetensors file",
    "animate --weights other_config": "other_config",
    # depth and convert
    "depth missing.png": "missing.png: No such file or directory",
    "depth cut.png": "cut.png: is damaged or cut short",
    "depth text.mp4": "text.mp4: is text",
    "depth me.png --output me.png": "output 'me.png': is the same file as 'me.png'",
    "depth me.png --output depth.mp4": "output 'depth.mp4': expected a name that ends in .png or .ply",
    "depth clip.mp4 --output depth.ply": "output 'depth.ply': expected a name that ends in .mp4",
    "depth": "the following arguments are required: input",
    "convert missing.pth --output weights": "missing.pth",
    "convert text.png --output weights": "text.png",
    "convert empty.png --output weights": "empty.png",
}


@pytest.fixture(scope="module")
def bad_files(tiny_weights, tmp_path_factory) -> Path:
    folder, before = tmp_path_factory.mktemp("bad"), os.getcwd()
    os.chdir(folder)
    write_image("me.png", draw_image())
    make_clip(Path("clip.mp4"), audio="aac")
    os.mkdir("folder.mp4")
    prepare(tiny_weights)
    os.chdir(before)
    return folder


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", BAD)
def test_what_is_wrong_is_said_in_one_line(bad_files, tiny_weights, capsys, monkeypatch, line):
    monkeypatch.chdir(bad_files)
    before = tree()
    arguments = line.split()
    if arguments and arguments[0] in ("animate", "depth") and "--weights" not in arguments:
        arguments += ["--weights", tiny_weights]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("depthaware: error: ")
    assert captured.err.count("\n") == 1
    assert BAD[line] in captured.err
    assert tree() == before


def test_weights_without_depth_cannot_show_any(here, capsys):
    from conftest import TINY

    from depthaware import DaGAN

    DaGAN(**TINY, keypoint_input="rgb", attention="none").save_pretrained("weights")
    for line in ("animate --save-depth d.mp4 --driving clip.mp4", "depth me.png"):
        assert main([*line.split(), "--weights", "weights"]) == 2
        assert "no depth network" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["clip.mp4", "me.png", "weights"]


def test_an_existing_result_outlives_a_failure(here, tiny_weights, capsys):
    Path("animation.mp4").write_bytes(b"precious")
    os.mkdir("mixed")
    write_image("mixed/1.png", draw_image())
    cut("mixed/2.png", 0.6, "me.png")
    assert main(["animate", "--driving", "mixed", "--weights", tiny_weights, "--batch-size", "1"]) == 2
    assert Path("animation.mp4").read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission(here, tiny_weights, capsys):
    os.mkdir("locked", mode=0o500)
    assert main(["animate", "--output", "locked/a.mp4", "--weights", tiny_weights]) == 2
    assert "cannot be written to" in capsys.readouterr().err


LOADING = "depthaware: loading PyTorch\n"
FACELESS = ["--fit", "crop", "--initial-frame", "0"]  # these clips have no face to look for


def run(arguments: list[str], **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "depthaware", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_full_disk(here, tiny_weights):
    """A limit on the size of files fails like a full disk, in the middle of writing."""
    before = tree()
    process = run(
        ["animate", "--driving", "clip.mp4", "--weights", tiny_weights, "--save-depth", "depth.mp4", *FACELESS],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (2, "", f"{LOADING}depthaware: error: animation.mp4: File too large\n")
    assert tree() == before


def test_no_space_left(here, tiny_weights, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["animate", "--driving", "clip.mp4", "--weights", tiny_weights, *FACELESS]) == 2
    assert capsys.readouterr().err == "depthaware: error: animation.mp4: No space left on device\n"
    assert sorted(path.name for path in here.iterdir()) == ["clip.mp4", "me.png"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs to see what a process has loaded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["while libraries load", "midway"])
def test_ctrl_c_and_kill(here, tiny_weights, moment, number):
    make_clip(Path("long.mp4"), 1500)
    before = sorted(tree())
    # A shell may have started the tests in the background, where Ctrl-C is ignored.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = run(["animate", "--driving", "long.mp4", "--weights", tiny_weights, *FACELESS], preexec_fn=listen)

    def has_come() -> bool:
        if moment == "midway":
            return any(path.name.endswith(".part") for path in here.iterdir())  # frames are being made
        return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()

    deadline = time.monotonic() + 300
    while not has_come() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    ended = (*process.communicate(timeout=300), process.returncode)
    left = sorted(set(tree()) - set(before))
    if number == signal.SIGKILL:  # nobody hears it; what is left hides, and is not under the name of the result
        assert ended == ("", LOADING, -number)
        assert [re.sub(r"\.[0-9a-f]{8}\.", ".", name) for name in left] in ([], [".animation.mp4.part"])
    else:
        assert ended == ("", f"{LOADING}depthaware: interrupted\n", 128 + number)
        assert left == []


def test_16_bit_depth_picture(here, tiny_weights):
    from PIL import Image

    assert main(["depth", "me.png", "--weights", tiny_weights]) == 0
    assert len(np.unique(np.array(Image.open("me_depth.png")))) > 256
    assert read_image("me_depth.png").shape == (48, 64, 3)
