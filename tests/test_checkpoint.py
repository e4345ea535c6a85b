"""The door for foreign checkpoints: what is inferred, what is refused, and `depthaware convert` from end to end.

Small networks of every kind, with the names of the released checkpoints; their numbers are compared in test_parity.py.
"""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from depthaware.blocks import AntiAliasDownsample
from depthaware.cli.main import main
from depthaware.dagan import DaGAN
from depthaware.depth import SelfSupDepthNet
from depthaware.discriminator import MultiScaleDiscriminator
from depthaware.pose import PoseNet
from depthaware.pretrained.checkpoint import load, read_depth, read_discriminator, read_model, read_pose

SMALL = {
    "num_keypoints": 3,
    "depth_channels": [4, 4, 4, 8, 8],
    "detector_block_expansion": 4,
    "motion_block_expansion": 4,
    "hourglass_max_features": 8,
    "num_hourglass_blocks": 2,
    "generator_block_expansion": 4,
    "generator_max_features": 8,
    "num_down_blocks": 2,
    "num_bottleneck_blocks": 2,
    "scale_factor": 0.5,
    "align_corners": False,
}
FOMM = {"keypoint_input": "rgb", "attention": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "SPADE": {"decoder": "spade"},
    "FOMM": FOMM | {"align_corners": True},
    "self-attention": {"attention": "self"},
    "key points from depth": {"keypoint_input": "depth", "attention": "none"},
    "full scale": {"scale_factor": 1.0},
}
# Ours -> theirs, the other way round than in checkpoint.py and written apart from it.
THEIRS = [
    (r"^hourglass\.(down_blocks.*)", r"predictor.encoder.\1"),
    (r"^hourglass\.(up_blocks.*)", r"predictor.decoder.\1"),
    (r"^dense_motion\.(.*)(down_blocks.*)", r"dense_motion_network.\1encoder.\2"),
    (r"^dense_motion\.(.*)(up_blocks.*)", r"dense_motion_network.\1decoder.\2"),
    (r"^dense_motion\.", "dense_motion_network."),
    (r"^appearance_encoder\.", ""),
    (r"^depth_encoder\.", "src_"),
    (r"^attention\.gate", "AttnModule.gamma"),
    (r"^attention\.(\w+)", r"AttnModule.\1_conv"),
    (r"^decoder\.(bottleneck\.)", r"\1r"),
    (r"^decoder\.(up_blocks|final)", r"\1"),
    (r"^decoder\.middle\.", "decoder.G_middle_"),
    (r"^decoder\.up\.", "decoder.up_"),
    (r"\.shared\.", ".mlp_shared.0."),
    (r"\.(gamma|beta)\.", r".mlp_\1."),
    (r"parametrizations\.weight\.original", "weight_orig"),
    (r"parametrizations\.weight\.0\._([uv])", r"weight_\1"),
]


def theirs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, tensor in state.items():
        for ours, foreign in THEIRS:
            key = re.sub(ours, foreign, key)
        renamed[key] = tensor
    return renamed


def model(**options) -> DaGAN:
    torch.manual_seed(0)
    return DaGAN(**SMALL | options).eval()


def content(net: DaGAN) -> dict[str, Any]:
    """What a training script saves."""
    state = net.state_dict()
    detector = {key[len("kp_detector.") :]: tensor for key, tensor in state.items() if key.startswith("kp_detector.")}
    generator = {key: tensor for key, tensor in state.items() if key.startswith("dense_motion.")}
    generator |= {key[len("generator.") :]: tensor for key, tensor in state.items() if key.startswith("generator.")}
    generator, detector = theirs(generator), theirs(detector)
    if net.dense_motion.down.step > 1:
        generator["dense_motion_network.down.weight"] = net.dense_motion.down.weight
        detector["down.weight"] = net.kp_detector.down.weight
    return {"generator": generator, "kp_detector": detector, "epoch": 3}


def write_depth(folder: Path, net: SelfSupDepthNet | PoseNet, files: tuple[str, str] = ("encoder", "depth")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = net.state_dict()
    encoder: dict[str, Any] = {key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
    names = ["squeeze", "conv1", "conv2", "motion", "focal", "center"]
    decoder = {
        f"net.{names.index(k.split('.')[0])}.{k.split('.')[1]}": t for k, t in state.items() if k.split(".")[0] in names
    }
    for key, tensor in state.items():
        if match := re.fullmatch(r"(reduce|fuse|heads)\.(\d)\.(\w+)", key):
            part, level, leaf = match[1], int(match[2]), match[3]
            index = {"reduce": 8 - 2 * level, "fuse": 9 - 2 * level, "heads": 10 + level}[part]
            decoder[f"decoder.{index}.conv.{'' if part == 'heads' else 'conv.'}{leaf}"] = tensor
    encoder |= {"encoder.fc.weight": torch.zeros(10, 4), "encoder.fc.bias": torch.zeros(10)}
    torch.save(encoder | {"height": 256, "width": 256, "use_stereo": False}, folder / f"{files[0]}.pth")
    torch.save(decoder, folder / f"{files[1]}.pth")
    return folder


@pytest.fixture(scope="module")
def depth_dirs(tmp_path_factory) -> dict[str, Path]:
    """Depth networks by ResNet depth."""
    folder = tmp_path_factory.mktemp("depth")
    channels = tuple(SMALL["depth_channels"])
    nets = {name: SelfSupDepthNet(f"resnet{name}.tv_in1k", decoder_channels=channels) for name in ("18", "50")}
    return {name: write_depth(folder / name, net) for name, net in nets.items()}


def small(options: dict[str, Any], depth_dirs: dict[str, Path], layers: str = "18") -> tuple[DaGAN, Path | None]:
    """A network, and its depth folder if it has one."""
    net = model(**options | {"depth_encoder": f"resnet{layers}.tv_in1k"})
    if net.depth_net is None:
        return net, None
    _, state = read_depth(depth_dirs[layers])
    net.depth_net.load_state_dict(state)
    return net, depth_dirs[layers]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_convert_from_end_to_end(kind, depth_dirs, tmp_path, capsys):
    net, depth_dir = small(KINDS[kind], depth_dirs)
    torch.save(content(net), tmp_path / "x.pth.tar")
    options = ["--depth-dir", str(depth_dir)] if depth_dir else []
    assert main(["convert", str(tmp_path / "x.pth.tar"), *options, "--output", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out
    loaded = DaGAN.from_pretrained(tmp_path / "out")
    ignored = {"num_bottleneck_blocks": 6} if loaded.config["decoder"] == "spade" else {}
    ignored |= {} if depth_dir else {"depth_channels": [16, 32, 64, 128, 256]}
    assert loaded.config == net.config | ignored
    assert (
        "license" in loaded.card
        and "x.pth.tar" in loaded.card
        and ("resnet18" in loaded.card) == (depth_dir is not None)
    )
    images = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loaded(*images).prediction, net(*images).prediction, rtol=0, atol=0)


@pytest.mark.parametrize("flag, expected", [("--align-corners", True), ("--no-align-corners", False)])
def test_the_sampling_is_a_choice(flag, expected, tmp_path):
    torch.save(content(model(**FOMM)), tmp_path / "x.pth.tar")
    arguments = ["convert", str(tmp_path / "x.pth.tar"), "--output", str(tmp_path / "out"), flag, "--quiet"]
    assert main(arguments) == 0
    assert DaGAN.from_pretrained(tmp_path / "out").config["align_corners"] is expected


@pytest.mark.parametrize("layers", ["18", "50"])
def test_the_depth_network_is_recognised(layers, depth_dirs, tmp_path):
    net, depth_dir = small({}, depth_dirs, layers)
    torch.save(content(net), tmp_path / "x.pth.tar")
    options, _ = read_model(tmp_path / "x.pth.tar", depth_dir)
    assert options["depth_encoder"] == f"resnet{layers}.tv_in1k"
    assert options["depth_channels"] == SMALL["depth_channels"]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_leaves_beside_the_weights_does_not_matter(legacy, tmp_path):
    net = model(**FOMM)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    extras = {
        "optimizer_generator": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "epoch": np.int64(99),
        "loss": {"l1": np.float64(0.5), "l2": np.float32(0.5), "done": np.bool_(True)},
    }
    prefixed = {
        name: {f"module.{key}": tensor for key, tensor in state.items()} if isinstance(state, dict) else state
        for name, state in content(net).items()
    }
    torch.save(prefixed | extras, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=not legacy)
    loaded = DaGAN.from_checkpoint(tmp_path / "x.pth.tar")
    torch.testing.assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert load(tmp_path / "x.pth.tar")["loss"]["l1"] == 0.5


def test_a_pose_network_is_read(tmp_path):
    net = PoseNet("resnet18.tv_in1k", intrinsics="released")
    options, state = read_pose(write_depth(tmp_path, net, ("pose_encoder", "pose")))
    loaded = PoseNet(**options)
    loaded.load_state_dict(state)
    assert loaded.intrinsics == "released"
    torch.testing.assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)


def test_a_discriminator_of_two_scales_is_read(tmp_path):
    options = {"num_keypoints": 3, "scales": [1.0, 0.5], "block_expansion": 4, "max_features": 8, "num_blocks": 3}
    net = MultiScaleDiscriminator(**options)
    names = {"discs.0.": "module.discs.1.", "discs.1.": "module.discs.0-5."}
    state = {names[key[:8]] + key[8:]: tensor for key, tensor in net.state_dict().items()}
    torch.save({"discriminator": state}, tmp_path / "x.pth.tar")
    found, tensors = read_discriminator(tmp_path / "x.pth.tar")
    assert found == options
    loaded = MultiScaleDiscriminator(**found)
    loaded.load_state_dict(tensors)
    torch.testing.assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)


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
    "absent": (lambda p: None, "cannot be read .No such file"),
    "a folder": (lambda p: p.mkdir(), "cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "truncated"),
    "truncated early": (lambda p: _truncated(p, 0.01), "truncated"),
    "truncated late": (lambda p: _truncated(p, 0.99), "truncated"),
    "truncated, old format": (lambda p: _truncated(p, 0.5, legacy=True), "truncated"),
    "text": (lambda p: p.write_text("hello world\n" * 50), "foreign"),
    "an image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9), "foreign"),
    "another zip": (_archive, "foreign"),
    "TorchScript": (lambda p: torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(p)), "foreign"),
    "safetensors": (lambda p: save_file({"a": torch.ones(3)}, p), "with kp_detector|foreign"),
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
    assert "cannot be written" in line
    assert DaGAN.from_checkpoint(tmp_path / "x.pth.tar").config["num_keypoints"] == 3


def test_the_result_is_an_ordinary_folder(tmp_path):
    torch.save(content(model(**FOMM)), tmp_path / "x.pth.tar")
    DaGAN.from_checkpoint(str(tmp_path / "x.pth.tar")).save_pretrained(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "out/config.json").read_text())["num_keypoints"] == 3
