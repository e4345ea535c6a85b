"""Conversion of foreign checkpoints: the inferred options, and `depthaware convert` from end to end.

Small networks of every kind, with the names of the released checkpoints; their numbers are compared in test_parity.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import FOMM, KINDS, SMALL, content, model, small, write_depth, write_depths

from depthaware.cli.main import main
from depthaware.dagan import DaGAN
from depthaware.discriminator import MultiScaleDiscriminator
from depthaware.pose import PoseNet
from depthaware.pretrained.checkpoint import load, read_discriminator, read_model, read_pose


@pytest.fixture(scope="module")
def depth_dirs(tmp_path_factory) -> dict[str, Path]:
    return write_depths(tmp_path_factory.mktemp("depth"))


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


def test_the_result_is_an_ordinary_folder(tmp_path):
    torch.save(content(model(**FOMM)), tmp_path / "x.pth.tar")
    DaGAN.from_checkpoint(str(tmp_path / "x.pth.tar")).save_pretrained(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "out/config.json").read_text())["num_keypoints"] == 3
