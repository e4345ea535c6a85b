"""Inputs of users: paths and images of all types in Python; on the command line, files that are something else."""

import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from clips import draw_image, make_clip

from depthaware import DaGAN, animate, read_image, read_video
from depthaware.cli.main import main
from depthaware.inference import Animator, animate_to_file
from depthaware.media.image import write_image

TORCH_FREE = "import sys; from depthaware.cli.main import main; "


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder with a portrait, a clip, and a folder of its frames."""
    monkeypatch.chdir(tmp_path)
    write_image("me.png", draw_image())
    make_clip(Path("clip.mp4"), frames=3)
    Path("frames").mkdir()
    for i, frame in enumerate(read_video("clip.mp4")):
        write_image(f"frames/{i}.png", frame.image)
    return tmp_path


FRAMES = {
    "a folder": lambda frames: "frames",
    "a pattern": lambda frames: "frames/*.png",
    "a path": lambda frames: Path("clip.mp4"),
    "paths": lambda frames: [f"frames/{i}.png" for i in range(3)],
    "Pillow images": lambda frames: list(map(PIL.Image.fromarray, frames)),
    "one array": lambda frames: frames,
    "floats": lambda frames: frames / 255,
    "one tensor": lambda frames: torch.from_numpy(frames / 255).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_driving_video_of_any_type_gives_the_same_frames(kind, here, tiny_model):
    frames = np.stack([frame.image for frame in read_video("clip.mp4")])
    expected = animate(tiny_model, read_image("me.png"), list(frames))
    found = animate(tiny_model, "me.png", FRAMES[kind](frames))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_generator_gives_a_frame_for_each_of_its_own(here, tiny_model):
    assert len(list(animate(tiny_model, "me.png", (frame.image for frame in read_video("clip.mp4"))))) == 3


def test_paths_are_written_to_a_file(here, tiny_model):
    written = animate_to_file(tiny_model, "me.png", "clip.mp4", "out.mp4")
    assert (written.frames, read_video("out.mp4").frames) == (3, 3)


@pytest.mark.parametrize("driving", [[], (), np.zeros((0, 8, 8, 3), np.uint8), torch.zeros(0, 3, 8, 8), iter([])])
def test_no_driving_frames_are_refused(driving, tiny_model):
    with pytest.raises(ValueError, match="driving: has no frames"):
        list(animate(tiny_model, draw_image(), driving))


@pytest.mark.parametrize("driving", [draw_image(), torch.rand(3, 8, 8), PIL.Image.fromarray(draw_image())])
def test_one_image_is_no_driving_video(driving, tiny_model):
    with pytest.raises(ValueError, match="driving: expected a video or several frames, got a single image"):
        animate(tiny_model, draw_image(), driving)


def test_an_empty_path_is_not_the_current_folder(here, tiny_model):
    with pytest.raises(ValueError, match=r"driving: expected a video, .* got an empty path"):
        animate(tiny_model, "me.png", "")


def test_values_out_of_range_are_refused_in_any_frame(tiny_model):
    frames = [torch.rand(3, 8, 8), torch.rand(3, 8, 8) * 2 - 1]
    with pytest.raises(ValueError, match=r"image: expected values from 0 to 1, got -0\.\d+ to"):
        list(animate(tiny_model, draw_image(), frames))
    with pytest.raises(ValueError, match="image: expected values from 0 to 1, got nan"):
        animate(tiny_model, torch.full((3, 8, 8), float("nan")), frames)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_dtype_is_told_of_the_option(dtype, tiny_model):
    model = DaGAN(**tiny_model.config).to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"model: its weights are {name}, expected float32; .*dtype=torch.{name}"):
        Animator(model, draw_image())


def prepare() -> None:
    torch.save({"generator": {}}, "old.pth.tar")
    Path("cut.pth").write_bytes(Path("old.pth.tar").read_bytes()[:300])
    Path("pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n")
    Path("page.pth").write_text("<!DOCTYPE html><html></html>")
    Path("empty").mkdir()
    Path("lone.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b'{"a":{}}        ')
    Path("weights").mkdir()
    Path("weights/config.json").write_text("{}")
    Path("frames/0.jpg").touch()


BAD = {
    "animate --source=": "expected the path of a file, a folder or a pattern, got an empty one",
    "animate --driving=": "expected the path of a file, a folder or a pattern, got an empty one",
    "animate --source https://a.b/c.png": "https://a.b/c.png: is an address on the network, expected a file",
    "animate --source clip.mp4": r"clip.mp4: is an MP4 video, expected an image \(PNG, JPEG",
    "animate --source page.pth": "page.pth: is a web page, expected an image",
    "animate --driving frames": "frames: has 1 frames twice, such as 0.jpg and 0.png; .*frames/.*.jpg or frames/.*.png",
    "animate --driving empty": "empty: found no images",
    "animate --weights old.pth.tar": "'old.pth.tar': is a checkpoint, convert it first: depthaware convert old.pth.tar",
    "animate --weights lone.safetensors": "is a single file, expected the folder in which it lies",
    "animate --weights pointer.pth": "is a Git LFS pointer, fetch the file itself",
    "animate --weights absent/vox.pth.tar": "weights 'absent/vox.pth.tar': there is no such file",
    "convert cut.pth --output new": "cut.pth: is half a download of a PyTorch checkpoint",
    "convert pointer.pth --output new": "pointer.pth: is a Git LFS pointer, fetch the file itself with `git lfs pull`",
    "convert page.pth --output new": "page.pth: is a web page, download the file itself",
    "convert me.png --output new": "me.png: is a PNG image, expected a PyTorch checkpoint",
    "depth=": "invalid choice",
    "animate --output -x.mp4": "expected one argument, ./-NAME if it begins with a dash",
}


def test_what_a_path_is_instead_is_said_before_pytorch_is_loaded(here):
    prepare()
    heavy = "{'torch', 'av', 'numpy'} & set(sys.modules)"
    code = f"{TORCH_FREE}\nfor line in {list(BAD)}: print(main(line.split()), {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2 set()\n" * len(BAD), done
    for line, (said, expected) in zip(BAD, zip(done.stderr.splitlines(), BAD.values(), strict=True), strict=True):
        assert re.search(f"^depthaware: error: .*{expected}", said), (line, said)


def test_weights_that_are_a_pointer_are_called_so(here):
    prepare()
    os.replace("pointer.pth", "weights/model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors: is a Git LFS pointer, fetch the file itself"):
        DaGAN.from_pretrained("weights")


def test_a_name_that_begins_with_a_dash_is_a_name(here, tiny_weights):
    os.rename("me.png", "-me.png")
    os.rename("clip.mp4", "-clip.mp4")
    assert main(["depth", "-me.png", "--weights", tiny_weights]) == 0
    assert main(["animate", "--source", "-me.png", "--driving", "-clip.mp4", "--weights", tiny_weights]) == 0


def test_the_command_runs_in_a_thread(here, tiny_weights):
    codes = []
    arguments = ["depth", "me.png", "--weights", tiny_weights, "--quiet"]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("output, name", [(os.devnull, "Ж.png"), ("/dev/full", "a.png")])
def test_a_report_that_cannot_be_printed_ends_in_no_traceback(here, tiny_weights, output, name):
    """Letters that the terminal lacks, and a full disk."""
    command = [sys.executable, "-m", "depthaware", "depth", "me.png", "--output", name, "--weights", tiny_weights]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    with open(output, "w") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr and Path(name).exists()


def test_the_output_of_a_program_that_calls_the_command_is_left_as_it_was(here, tiny_weights, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["depth", "me.png", "--output", "Ж.png", "--weights", tiny_weights]) == 0
    assert stdout.errors == "strict" and stdout.buffer.getvalue().startswith(b"\\u0416.png: 64 x 48")


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_depth_of_an_animation_is_a_video_and_of_a_still_an_image(name, here, tiny_weights):
    first, second = PIL.Image.fromarray(draw_image()), PIL.Image.fromarray(255 - draw_image())
    first.save(name, save_all=True, append_images=[second], duration=40)
    assert main(["depth", name, "--weights", tiny_weights]) == 0
    assert read_video("a_depth.mp4").frames == 2
    first.save(name)
    assert main(["depth", name, "--weights", tiny_weights]) == 0
    assert read_image("a_depth.png").shape == (48, 64, 3)
