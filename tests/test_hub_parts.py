"""Depth network and detector alone: out of a DaGAN, saved, shared, and used by `depthaware depth`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from hub_server import HubServer
from test_hub import client

from depthaware import DaGAN, RGBDKeypointDetector, SelfSupDepthNet, list_models
from depthaware.cli.main import main
from depthaware.media.image import read_image
from depthaware.pretrained import locate

PORTRAIT = Path(locate.__file__).parents[1] / "assets" / "portrait.png"
PARTS = {"depth_net": SelfSupDepthNet, "kp_detector": RGBDKeypointDetector}
each_part = pytest.mark.parametrize("part", PARTS)


def same(a: torch.nn.Module, b: torch.nn.Module) -> None:
    assert a.config == b.config
    torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)


@each_part
@pytest.mark.parametrize(
    "options", [{}, {"keypoint_input": "depth", "attention": "none", "estimate_jacobian": False, "scale_factor": 0.5}]
)
def test_a_part_of_any_model_is_loaded_saved_and_loaded_again(part, options, tmp_path):
    model = DaGAN(**TINY | options, depth_range=[0.7, 1.5]).eval()
    model.save_pretrained(tmp_path / "whole", card="# Whose")
    alone = PARTS[part].from_pretrained(tmp_path / "whole")
    same(alone, getattr(model, part))
    if part == "depth_net":
        assert (alone.image_size, alone.depth_range) == (64, [0.7, 1.5])
    assert not alone.training and "# Whose" in alone.card and f"{PARTS[part].__name__}.from_pretrained" in alone.card
    alone.save_pretrained(tmp_path / "part", card="# Mine")
    again = PARTS[part].from_pretrained(tmp_path / "part")
    same(again, alone)
    assert again.card == "# Mine"
    assert json.loads((tmp_path / "part" / "config.json").read_text())["class"] == PARTS[part].__name__


@each_part
def test_bundled_weights_have_both(part):
    same(PARTS[part].from_pretrained("dagan-tiny"), getattr(DaGAN.from_pretrained("dagan-tiny"), part))


def test_where_training_starts_is_not_part_of_the_weights(tmp_path, monkeypatch):
    """Loading must not download the encoder once more."""
    net = SelfSupDepthNet("test_resnet", pretrained=False)
    assert "pretrained" not in net.config
    net.save_pretrained(tmp_path)
    assert "`SelfSupDepthNet.from_pretrained`" in (tmp_path / "README.md").read_text()


def test_weights_of_another_class_are_one_line(tmp_path):
    SelfSupDepthNet("test_resnet").save_pretrained(tmp_path / "depth")
    flat = DaGAN(**TINY | {"keypoint_input": "rgb", "attention": "none"})
    flat.save_pretrained(tmp_path / "flat")
    for kind, name, line in (
        (DaGAN, "depth", "expected weights of DaGAN, found those of SelfSupDepthNet"),
        (RGBDKeypointDetector, "depth", "expected weights of RGBDKeypointDetector or DaGAN, found those of SelfSup"),
        (SelfSupDepthNet, "flat", "expected weights of SelfSupDepthNet or of a DaGAN with one, found no depth net"),
    ):
        with pytest.raises(ValueError, match=f"^{tmp_path / name}: {line}"):
            kind.from_pretrained(tmp_path / name)


@pytest.mark.parametrize("size", ["big", 0, None])
def test_an_impossible_size_is_one_line(size, tmp_path):
    SelfSupDepthNet("test_resnet").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_size": size}))
    with pytest.raises(ValueError, match="image_size: expected a whole number from 1 to 8192"):
        SelfSupDepthNet.from_pretrained(tmp_path)


def test_the_depth_command_takes_a_depth_network_alone_and_paints_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    SelfSupDepthNet.from_pretrained("dagan-tiny").save_pretrained("runs/depth")
    for weights, output in (("dagan-tiny", "whole.png"), ("runs/depth", "alone.png"), ("runs/depth", "alone.ply")):
        assert main(["depth", str(PORTRAIT), "--weights", weights, "--output", output, "--quiet"]) == 0
    assert (read_image("whole.png") == read_image("alone.png")).all() and Path("alone.ply").stat().st_size > 15 * 256**2
    assert main(["animate", "--weights", "runs/depth"]) == 2
    assert "expected weights of DaGAN, found those of SelfSupDepthNet" in capsys.readouterr().err


def test_parts_are_pushed_pulled_pinned_and_listed(tmp_path):
    code = """
import depthaware, torch
from depthaware import SelfSupDepthNet, RGBDKeypointDetector, list_models
out["before"] = list_models()
net = SelfSupDepthNet.from_pretrained("dagan-tiny")
commit = net.push_to_hub("me/depth", private=True).rpartition("/")[2]
RGBDKeypointDetector.from_pretrained("dagan-tiny").push_to_hub("me/points")
back = SelfSupDepthNet.from_pretrained("me/depth", revision=commit)
out["same"] = all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), back.state_dict().values()))
RGBDKeypointDetector.from_pretrained("me/points")
out["after"] = list_models()
out["wrong"] = refusal(DaGAN.from_pretrained, "me/depth")
"""
    with HubServer() as server:
        out = client(code, server.url, tmp_path)
    assert out["before"] == ["dagan-tiny"] and out["same"]
    assert out["after"] == ["dagan-tiny", "me/depth", "me/points"]
    assert out["wrong"].startswith("ValueError: ") and out["wrong"].endswith("found those of SelfSupDepthNet")


def test_only_our_weights_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    contents = {
        "a--ours": '{"num_keypoints": 15, "keypoint_input": "rgb"}',
        "b--part": '{"class": "SelfSupDepthNet"}',
        "c--bert": '{"hidden_size": 768}',
        "d--list": "[]",
        "e--broken": "{",
    }
    for name, config in contents.items():
        folder = tmp_path / f"models--{name}" / "snapshots" / "0"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config)
        (folder / "model.safetensors").touch()
    (tmp_path / "models--f--empty").mkdir()
    assert list_models() == ["dagan-tiny", "a/ours", "b/part"]


def test_listing_needs_no_pytorch():
    code = "import sys, depthaware; depthaware.list_models(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
