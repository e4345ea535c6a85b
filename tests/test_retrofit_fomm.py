"""FOMM: a retrofit is the paper's model, what does not fit is refused, and the networks without FOMM's code."""

import csv
import re
import sys
from pathlib import Path

import pytest
import retrofit_fomm
import standins
import test_checkpoint as checkpoints
import torch
from clips import make_clip
from retrofits import DRIVING, SOURCE, assert_equal, call, depth_net, networks, one_line, open_gates, retrofitted
from torch import nn

from depthaware import DaGAN
from depthaware.retrofit import fomm
from depthaware.retrofit.merging import _base


@pytest.fixture(scope="module")
def fomm_checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fomm") / "fomm.pth.tar"
    torch.save(checkpoints.content(checkpoints.model(**checkpoints.FOMM)), path)
    return path


@pytest.mark.parametrize("align_corners", [True, False])
@torch.no_grad()
def test_a_retrofitted_fomm_is_a_dagan(fomm_checkpoint, align_corners):
    """Weights widened and put into `DaGAN`, which knows nothing of hooks."""
    plain = DaGAN.from_checkpoint(fomm_checkpoint, align_corners=align_corners)
    nets = list(fomm.retrofit(*fomm.load_fomm(fomm_checkpoint, align_corners=align_corners), depth_net()))
    open_gates(nets)
    config = plain.config | {"keypoint_input": "rgbd", "attention": "cross", "depth_channels": (4, 4, 8, 8, 4)}
    model = DaGAN(**config | {"depth_encoder": "test_resnet.r160_in1k"}).eval()
    state = plain.state_dict()
    names = ("hourglass.down_blocks.0.conv", "kp", "jacobian")
    for key, addition in zip(names, nets[0].additions, strict=True):
        key = f"kp_detector.{key}.weight"
        state[key] = torch.cat((state[key], addition.conv.weight), dim=1)
    for prefix, part in {
        "depth_net.": nets[0].depth_net,
        "generator.depth_encoder.": nets[1].depth_encoder,
        "generator.attention.": nets[1].additions[0],
    }.items():
        state |= {prefix + key: value for key, value in part.state_dict().items()}
    model.load_state_dict(state)
    out, found = model(SOURCE, DRIVING), call(nets)
    torch.testing.assert_close(found["prediction"], out.prediction, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["driving jacobian"], out.kp_driving.jacobian, atol=1e-5, rtol=1e-5)
    merged = fomm.merge(*nets, image_size=64)
    assert merged.config == model.config | {"image_size": 64, "depth_range": nets[0].depth_net.config["depth_range"]}
    assert_equal(dict(merged.state_dict()), dict(model.state_dict()))


class DetectorOfFOMM(nn.Module):
    """FOMM's key point detector by the names of its authors' weights, to be merged."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for key, value in state.items():
            owner: nn.Module = self
            *path, leaf = key.split(".")
            for name in path:
                if name not in owner._modules:
                    owner.add_module(name, nn.Module())
                owner = owner.get_submodule(name)
            owner.register_buffer(leaf, value)


@pytest.mark.parametrize("options", [{}, {"fdn": False}, {"cam": False}, {"fdn": False, "cam": False}])
@torch.no_grad()
def test_a_merged_retrofit_is_the_retrofit_and_is_saved_as_a_dagan(options, fomm_checkpoint, tmp_path):
    nets = list(fomm.retrofit(*fomm.load_fomm(fomm_checkpoint), depth_net(), **options))
    open_gates(nets)
    fomm.merge(*nets, image_size=64).save_pretrained(tmp_path / "it")
    model = DaGAN.from_pretrained(tmp_path / "it")
    torch.testing.assert_close(model(SOURCE, DRIVING).prediction, call(nets)["prediction"], atol=1e-5, rtol=1e-5)


def test_the_authors_own_networks_merge_by_their_names(fomm_checkpoint):
    """Upstream's modules have the names of the checkpoint; they sample with align_corners=False today."""
    parts = torch.load(fomm_checkpoint)
    options, tensors = _base(*(DetectorOfFOMM(parts[name]) for name in ("kp_detector", "generator")), None)
    expected = DaGAN.from_checkpoint(fomm_checkpoint, align_corners=False)
    assert expected.config == expected.config | options
    assert_equal(tensors, dict(expected.state_dict()))


def test_what_no_dagan_has_is_not_merged(fomm_checkpoint):
    kp_detector, generator = fomm.retrofit(*fomm.load_fomm(fomm_checkpoint), depth_net())
    one_line("kp_detector: expected the result of fomm.retrofit, got FOMM", lambda: fomm.merge(*networks("fomm")))
    one_line(
        "align_corners: load_fomm was called with True", lambda: fomm.merge(kp_detector, generator, align_corners=False)
    )
    kp_detector.model.detector.temperature = 0.2
    one_line("expected the temperature 0.1, got 0.2", lambda: fomm.merge(kp_detector, generator))
    generator.strength = 0.5
    one_line("generator: expected strength 1, got 0.5", lambda: fomm.merge(kp_detector, generator))
    other = fomm.retrofit(*fomm.load_fomm(fomm_checkpoint), nn.Conv2d(3, 1, 1))
    one_line("depth_net: expected a SelfSupDepthNet, got Conv2d", lambda: fomm.merge(*other))


def without(network: nn.Module, part: str) -> nn.Module:
    delattr(network, part)
    return network


def fomm_pair(kp_detector: nn.Module | None = None, generator: nn.Module | None = None) -> list[nn.Module]:
    return [kp_detector or standins.FOMMDetector(), generator or standins.FOMMGenerator()]


@pytest.mark.parametrize(
    "pair, message",
    [
        (lambda: fomm_pair(standins.FOMMDetector(channels=4)), "first convolution with 3 input channels, found .* 4;"),
        (lambda: fomm_pair(nn.Linear(3, 3)), "kp_detector: expected a first convolution .* found none"),
        (lambda: fomm_pair(without(standins.FOMMDetector(), "kp")), "named 'kp', found predictor, jacobian, down"),
        (
            lambda: fomm_pair(None, without(standins.FOMMGenerator(), "dense_motion_network")),
            "'dense_motion_network', f",
        ),
        (lambda: fomm_pair(None, without(standins.FOMMGenerator(), "bottleneck")), "generator: .* 'bottleneck', found"),
        (lambda: fomm_pair(None, without(standins.FOMMGenerator(), "down_blocks")), "'down_blocks' beside 'first', f"),
        (lambda: fomm_pair(None, nn.Sequential(*(standins.FOMMGenerator() for _ in range(2)))), "found 0.dense_motion"),
        (lambda: networks("tpsmm")[:2], "kp_detector: expected one submodule named 'kp', found fg_encoder, fc"),
        (lambda: fomm_pair()[::-1], "kp_detector: expected a first convolution with 3 input channels"),
        (lambda: retrofitted("fomm"), r"kp_detector: .* found a retrofitted one; remove\(\) undoes that"),
        (lambda: [nn.DataParallel(net) for net in fomm_pair()], "found DataParallel; pass its .module"),
    ],
)
def test_a_pair_that_is_not_fomms_is_refused(pair, message):
    one_line(message, lambda: fomm.retrofit(*pair(), depth_net()))


@pytest.mark.parametrize("missing", ["kp_driving", "kp_source"])
@pytest.mark.parametrize("entry", ["value", "jacobian"])
def test_key_points_with_a_missing_entry_are_refused(missing, entry):
    kp_detector, generator = retrofitted("fomm")
    kp = {"kp_driving": kp_detector(DRIVING), "kp_source": kp_detector(SOURCE)}
    del kp[missing][entry]
    message = "expected 'value'" if entry == "value" else "kp_driving has value.*, kp_source value"
    one_line(message, lambda: generator(SOURCE, **kp))


def test_key_points_without_jacobians_are_fine():
    nets = [standins.FOMMDetector(jacobian=False, scale=1).eval(), standins.FOMMGenerator().eval()]
    before = call(nets)
    new = list(fomm.retrofit(*nets, depth_net()))
    assert_equal(call(new), before)
    assert len(new[0].additions) == 2


CONFIG = {
    "model_params": {
        "common_params": {"num_kp": 3, "num_channels": 3, "estimate_jacobian": True},
        "kp_detector_params": {"temperature": 0.1, "block_expansion": 4, "num_blocks": 2, "scale_factor": 0.5},
        "generator_params": {
            "block_expansion": 4,
            "num_down_blocks": 2,
            "num_bottleneck_blocks": 2,
            "dense_motion_params": {"block_expansion": 4, "num_blocks": 2, "scale_factor": 0.5},
        },
    }
}


@torch.no_grad()
def test_load_fomm_is_the_checkpoint(fomm_checkpoint):
    model = DaGAN.from_checkpoint(fomm_checkpoint)
    nets = list(fomm.load_fomm(fomm_checkpoint, CONFIG))
    found, out = call(nets), model(SOURCE, DRIVING)
    assert model.config["align_corners"]
    assert found.keys() > {"prediction", "mask", "occlusion_map", "deformed", "sparse_deformed"}
    torch.testing.assert_close(found["prediction"], out.prediction)
    torch.testing.assert_close(found["deformed"], out.deformed)
    assert not any(net.training for net in nets)


def test_the_config_is_read_and_compared(fomm_checkpoint, tmp_path):
    text = re.sub(r"'(\w+)'", r"\1", str(CONFIG)).replace("0.1", "0.2")
    (tmp_path / "fomm.yaml").write_text(text)
    kp_detector, _ = fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml")
    assert kp_detector.detector.temperature == 0.2
    (tmp_path / "fomm.yaml").write_text(text.replace("num_kp: 3", "num_kp: 10"))
    one_line(
        "config: expected the checkpoint's num_kp 3, got 10",
        lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml"),
    )
    for content in ("model_params: [", "just: this", "[]"):
        (tmp_path / "fomm.yaml").write_text(content)
        one_line("expected FOMM's model_params", lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml"))
    one_line("none.yaml: cannot be read", lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "none.yaml"))


def test_a_config_file_without_pyyaml_is_one_line(fomm_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "fomm.yaml").write_text("model_params: {}")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"^yaml is not installed: pip install pyyaml$"):
        fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml")
    fomm.load_fomm(fomm_checkpoint, CONFIG)  # the content of the file needs no package


def test_a_dagan_is_no_fomm(tmp_path):
    torch.save(checkpoints.content(checkpoints.model(keypoint_input="rgb", attention="self")), tmp_path / "x.pth.tar")
    one_line("x.pth.tar: expected a FOMM, found attention", lambda: fomm.load_fomm(tmp_path / "x.pth.tar"))


def test_the_recipe_runs(fomm_checkpoint, tmp_path, capsys):
    """Two steps of each stage, on clips made on the spot; what it leaves loads."""
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "kind", "split", "identity"])
        for split in ("train", "test"):
            (tmp_path / split / "clips").mkdir(parents=True)
            writer.writerow([f"{split}_0", "clip", split, split])
            make_clip(tmp_path / split / "clips" / f"{split}_0.mp4", frames=4, size=(64, 64))
    options = {"data": str(tmp_path), "checkpoint": str(fomm_checkpoint), "output": str(tmp_path / "run")}
    options |= {"size": 64, "detector_images": 4, "images": 4, "batch": 2, "threads": 1}
    retrofit_fomm.main(retrofit_fomm.Options(**options))
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("before: L1 ") and after.startswith("after: L1 ")
    depth = DaGAN.from_pretrained("dagan-tiny").depth_net
    loaded = fomm.load_retrofit(tmp_path / "run", *fomm.load_fomm(fomm_checkpoint), depth)
    assert all(addition.conv.weight.any() for addition in loaded[0].additions)
