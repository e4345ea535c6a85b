"""Checkpoints that are refused, each in one line: unreadable, unsafe, damaged, or not of one network."""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import FOMM, content, model, small, write_depths
from safetensors.torch import save_file

from depthaware.blocks import AntiAliasDownsample
from depthaware.cli.main import main
from depthaware.dagan import DaGAN


@pytest.fixture(scope="module")
def depth_dirs(tmp_path_factory) -> dict[str, Path]:
    return write_depths(tmp_path_factory.mktemp("depth"))


class Malicious:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def _truncated(path: Path, share: float, legacy: bool = False) -> None:
    torch.save(content(model(**FOMM)), path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "absent": (lambda p: None, "No such file"),
    "a folder": (lambda p: p.mkdir(), "cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "is an empty file, download it again"),
    "truncated early": (lambda p: _truncated(p, 0.01), "is half a download of a PyTorch checkpoint"),
    "truncated late": (lambda p: _truncated(p, 0.99), "is half a download of a PyTorch checkpoint"),
    "truncated, old format": (lambda p: _truncated(p, 0.5, legacy=True), "cut short"),
    "text": (lambda p: p.write_text("hello world\n" * 50), "is text, expected a PyTorch checkpoint"),
    "a pointer": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n"),
        "is a Git LFS pointer, fetch the file itself with `git lfs pull`",
    ),
    "a web page": (
        lambda p: p.write_text("\n<!DOCTYPE HTML><html><title>Quota exceeded</title></html>"),
        "is a web page, download the file itself",
    ),
    "an image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9), "is a PNG image, expected"),
    "another zip": (_archive, "is a ZIP archive, expected"),
    "TorchScript": (
        lambda p: torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(p)),
        "is TorchScript, which is code",
    ),
    "safetensors": (
        lambda p: save_file({"a": torch.ones(3)}, p),
        "is a safetensors file, expected a PyTorch checkpoint",
    ),
    "one tensor": (lambda p: torch.save(torch.ones(3), p), "found a Tensor"),
    "a whole module": (lambda p: torch.save(torch.nn.Linear(2, 2), p), r"imports torch.nn.modules.linear.Linear"),
    "malicious": (lambda p: torch.save({"generator": Malicious(p.parent / "pwned")}, p), "imports posix.system"),
    "malicious pickle": (
        lambda p: p.write_bytes(pickle.dumps(Malicious(p.parent / "pwned"))),
        "not a PyTorch checkpoint",
    ),
    "a depth network": (lambda p: torch.save({"encoder.conv1.weight": torch.ones(1)}, p), "found encoder.conv1.weight"),
    "nothing": (lambda p: torch.save({}, p), "found nothing"),
    "not tensors": (lambda p: torch.save({"generator": {}, "kp_detector": {"a": 1}}, p), "found a int under 'a'"),
    "empty networks": (lambda p: torch.save({"generator": {}, "kp_detector": {}}, p), "missing kp_detector"),
}


def refusal(capsys, *arguments: Any) -> str:
    """The one line with which `depthaware convert` ends."""
    assert main(["convert", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_files_are_one_line(kind, tmp_path, capsys, recwarn):
    write, expected = UNREADABLE[kind]
    write(tmp_path / "x.pth.tar")
    recwarn.clear()
    line = refusal(capsys, tmp_path / "x.pth.tar", "--output", tmp_path / "out")
    assert "x.pth.tar" in line and re.search(expected, line), line
    assert not recwarn and not (tmp_path / "out").exists() and not (tmp_path / "pwned").exists()


def _generator(key: str, value: Any = None) -> Callable[[dict[str, Any]], Any]:
    if value is None:
        return lambda c: c["generator"].pop(key)
    return lambda c: c["generator"].update({key: value})


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no detector": (lambda c: c.pop("kp_detector"), "with kp_detector, found generator, epoch"),
    "missing key": (_generator("final.bias"), "missing generator.decoder.final.bias"),
    "missing first key": (_generator("first.conv.weight"), "missing generator.appearance_encoder.first.conv.weight"),
    "unknown key": (_generator("extra.weight", torch.zeros(1)), "generator: unknown extra.weight"),
    "unknown keys": (lambda c: c["generator"].update({f"x{i}": torch.zeros(1) for i in range(9)}), r"x4, \.\.\."),
    "unknown inner key": (_generator("final.extra", torch.zeros(1)), "unknown generator.decoder.final.extra"),
    "wrong shape": (_generator("final.weight", torch.zeros(3, 4, 5, 5)), r"is \(3, 4, 5, 5\), expected \(3, 4, 7, 7\)"),
    "wrong dimensions": (_generator("first.conv.weight", torch.zeros(3)), "expected the 4 dimensions"),
    "not finite": (_generator("final.bias", torch.full((3,), float("nan"))), "not finite"),
    "wrong kernel": (_generator("dense_motion_network.down.weight", torch.zeros(3, 3, 5, 5)), "anti-aliasing kernel"),
    "another scale": (
        _generator("dense_motion_network.down.weight", AntiAliasDownsample(3, 0.25).weight),
        "scale of kp_detector is 0.5, of generator 0.25",
    ),
    "detector of another network": (
        lambda c: c.update(kp_detector=content(model(**FOMM, num_keypoints=2))["kp_detector"]),
        "number of key points of kp_detector is 2, of generator 3",
    ),
    "detector of two channels": (
        lambda c: c["kp_detector"].update({"predictor.encoder.down_blocks.0.conv.weight": torch.zeros(8, 2, 3, 3)}),
        "takes 2 channels",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_networks_that_do_not_fit_are_one_line(kind, tmp_path, capsys):
    change, expected = DAMAGED[kind]
    damaged = content(model(**FOMM))
    change(damaged)
    torch.save(damaged, tmp_path / "x.pth.tar")
    line = refusal(capsys, tmp_path / "x.pth.tar", "--output", tmp_path / "out")
    assert "x.pth.tar" in line and re.search(expected, line), line
    assert not (tmp_path / "out").exists()


def _mixed(folder: Path, dirs: dict[str, Path], encoder: str, decoder: str) -> None:
    (folder / "encoder.pth").symlink_to(dirs[encoder] / "encoder.pth")
    (folder / "depth.pth").symlink_to(dirs[decoder] / "depth.pth")


def _odd_encoder(folder: Path, dirs: dict[str, Path], change: Callable[[dict[str, Any]], Any]) -> None:
    encoder = torch.load(dirs["18"] / "encoder.pth", weights_only=True)
    change(encoder)
    torch.save(encoder, folder / "encoder.pth")
    (folder / "depth.pth").symlink_to(dirs["18"] / "depth.pth")


BAD_DEPTH: dict[str, tuple[Callable[[Path, dict[str, Path]], Any], str]] = {
    "empty folder": (lambda f, d: None, r"encoder.pth: cannot be read .No such file"),
    "no decoder": (lambda f, d: (f / "encoder.pth").symlink_to(d["18"] / "encoder.pth"), "depth.pth: cannot be read"),
    "ResNet-18 with the decoder of ResNet-50": (
        lambda f, d: _mixed(f, d, "18", "50"),
        "takes 2048 channels; .*encoder.pth is a resnet18, which gives 512",
    ),
    "ResNet-50 with the decoder of ResNet-18": (
        lambda f, d: _mixed(f, d, "50", "18"),
        "takes 512 channels; .*encoder.pth is a resnet50, which gives 2048",
    ),
    "a pose encoder": (
        lambda f, d: _odd_encoder(f, d, lambda e: e.update({"encoder.conv1.weight": torch.zeros(64, 6, 7, 7)})),
        "expected a depth encoder .3 input channels., found a pose encoder .6.",
    ),
    "an unknown ResNet": (
        lambda f, d: _odd_encoder(
            f, d, lambda e: e.update({"encoder.layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)})
        ),
        r"found stages of \(3, 2, 2, 2\) blocks",
    ),
    "unknown entry": (
        lambda f, d: _odd_encoder(f, d, lambda e: e.update({"decoder.x": torch.zeros(1)})),
        "encoder.pth: unknown decoder.x",
    ),
    "missing batch norm": (
        lambda f, d: _odd_encoder(f, d, lambda e: e.pop("encoder.bn1.weight")),
        "missing depth_net.encoder.bn1.weight",
    ),
}


@pytest.mark.parametrize("kind", BAD_DEPTH)
def test_bad_depth_folders_are_one_line(kind, depth_dirs, tmp_path, capsys):
    write, expected = BAD_DEPTH[kind]
    net, _ = small({}, depth_dirs)
    torch.save(content(net), tmp_path / "x.pth.tar")
    (tmp_path / "depth").mkdir()
    write(tmp_path / "depth", depth_dirs)
    arguments = [tmp_path / "x.pth.tar", "--depth-dir", tmp_path / "depth", "--output", tmp_path / "out"]
    line = refusal(capsys, *arguments)
    assert re.search(expected, line), line


def test_the_depth_folder_goes_with_dagan_alone(depth_dirs, tmp_path, capsys):
    net, depth_dir = small({}, depth_dirs)
    torch.save(content(net), tmp_path / "dagan.pth.tar")
    torch.save(content(model(**FOMM)), tmp_path / "fomm.pth.tar")
    output = ["--output", tmp_path / "out"]
    assert "--depth-dir" in refusal(capsys, tmp_path / "dagan.pth.tar", *output)
    assert "expected no depth network" in refusal(capsys, tmp_path / "fomm.pth.tar", "--depth-dir", depth_dir, *output)


def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    torch.save(content(model(**FOMM)), tmp_path / "x.pth.tar")
    line = refusal(capsys, tmp_path / "x.pth.tar", "--output", tmp_path / "x.pth.tar")
    assert "is a file, expected a folder" in line
    assert DaGAN.from_checkpoint(tmp_path / "x.pth.tar").config["num_keypoints"] == 3
