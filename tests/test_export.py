"""Exported graphs draw what the model draws, for any number of frames, and appear only if they do."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import Tensor

import depthaware
from depthaware import DaGAN, animate, read_image, read_video
from depthaware.cli.main import main
from depthaware.export import exporter as exporting
from depthaware.export.facts import read_facts
from depthaware.export.graphs import Graph, trace
from depthaware.export.quantization import quantize_export
from depthaware.export.runtimes import ExportedDaGAN, follow
from depthaware.media.image import fit_square

MEDIA = Path(depthaware.__file__).parent / "assets"
FILES = ["detector.onnx", "driver.onnx", "export.json", "source_encoder.onnx"]
OTHER = dict(decoder="spade", blend=False, attention="self", keypoint_input="rgb", align_corners=False)
FOMM = dict(keypoint_input="rgb", attention="none")
PRINTED = dict(attention_form="paper", estimate_jacobian=False)


def build(seed: int = 0, **options: Any) -> DaGAN:
    """A tiny model in which every part has an effect; motion has it through `blend`."""
    torch.manual_seed(seed)
    model = DaGAN(**TINY | {"blend": True} | options).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("attention.gate"):  # shut at first
            parameter.data.fill_(0.5)
        if parameter.ndim == 4:  # signals would fade from layer to layer
            parameter.data.mul_(2)
        if name == "kp_detector.jacobian.weight":  # zero at first
            parameter.data.normal_(std=0.05)
    return model


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    """A source (1, 3, 64, 64) and 8 frames of a driver."""
    frames = [fit_square(frame.image, 64) for frame in list(read_video(MEDIA / "driving.mp4"))[::18]]
    return fit_square(read_image(str(MEDIA / "portrait.png")), 64), torch.cat(frames[:8])


@pytest.fixture(scope="module")
def exported(faces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "onnx"
    exporting.export(build(), folder, *faces)
    return folder


@torch.no_grad()
def assert_draws_the_same(folder: Path, model: DaGAN, source: Tensor, driving: Tensor) -> None:
    loaded = ExportedDaGAN(folder, allow_code=True)
    for count in (1, 2, 5, 8):
        wanted = follow(model, source, driving[:count])
        torch.testing.assert_close(follow(loaded, source, driving[:count]), wanted, atol=1e-4, rtol=0)
    assert wanted[0].std(dim=0).max() > 0.05  # the frames differ by far more than the tolerance


def test_the_graphs_draw_what_the_model_draws_for_any_number_of_frames(exported, faces):
    assert sorted(path.name for path in exported.iterdir()) == FILES
    assert_draws_the_same(exported, build(), *faces)


@pytest.mark.parametrize("options, format", [(OTHER, "onnx"), (PRINTED, "onnx"), (FOMM | PRINTED, "torch")])
def test_so_do_those_of_other_models(options, format, faces, tmp_path):
    exporting.export(build(**options), tmp_path, *faces, format=format)
    assert_draws_the_same(tmp_path, build(**options), *faces)


def test_animation_takes_an_export_in_the_models_place(exported):
    portrait = read_image(str(MEDIA / "portrait.png"))
    clip = [frame.image for frame in read_video(MEDIA / "driving.mp4")][::30]
    ours, theirs = (
        np.stack([frame.image for frame in animate(model, portrait, clip, batch_size=2)]).astype(int)
        for model in (build(), ExportedDaGAN(exported))
    )
    assert ours.std(0).max() > 10
    assert abs(ours - theirs).max() <= 1


WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = None
import numpy as np, onnxruntime
folder, source, driving, out = sys.argv[1:]
sessions = {
    name: onnxruntime.InferenceSession(f"{folder}/{graph['file']}")
    for name, graph in json.load(open(f"{folder}/export.json"))["graphs"].items()
}
def run(name, **inputs):
    return dict(zip([o.name for o in sessions[name].get_outputs()], sessions[name].run(None, inputs)))
def taken(name, arrays):
    return {i.name: arrays[i.name] for i in sessions[name].get_inputs()}
def detect(role, image):
    return {f"{role}_{name}": array for name, array in run("detector", image=image).items()}
source = {"source_image": np.load(source)} | detect("source", np.load(source))
source |= run("source_encoder", **taken("source_encoder", source))
everything = source | detect("driving", np.load(driving))
np.save(out, run("driver", **taken("driver", everything))["prediction"])
"""


@torch.no_grad()
def test_onnxruntime_and_numpy_are_enough_and_names_lead_from_graph_to_graph(exported, faces, tmp_path):
    files = [tmp_path / name for name in ("source.npy", "driving.npy", "out.npy")]
    for file, images in zip(files, faces, strict=False):
        np.save(file, images.numpy())
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, exported, *files], check=True)
    model, (source, driving) = build(), faces
    wanted = model.drive(model.encode_source(source), model.detect_keypoints(driving))
    assert np.abs(np.load(files[-1]) - wanted.numpy()).max() <= 1e-4


@torch.no_grad()
def test_int8_keeps_the_frames_and_makes_the_files_smaller(exported, faces, tmp_path):
    shutil.copytree(exported, tmp_path / "int8")
    psnr = quantize_export(tmp_path / "int8", *faces)
    ours, theirs = (follow(ExportedDaGAN(folder), *faces)[0] for folder in (exported, tmp_path / "int8"))
    assert psnr >= 35
    assert not torch.equal(ours, theirs)
    assert -10 * (ours - theirs).square().mean().log10() >= 35
    assert sorted(path.name for path in (tmp_path / "int8").iterdir()) == FILES


@pytest.fixture
def traced_before(exported, monkeypatch):
    """Whatever model is exported, the graphs are those of `exported`."""
    graphs = read_facts(exported)["graphs"]
    known: Any = {name: Graph(None, graph["inputs"], graph["outputs"]) for name, graph in graphs.items()}
    monkeypatch.setattr(exporting, "trace", lambda model, size: known)
    monkeypatch.setattr(exporting, "write_graph", lambda graph, path: shutil.copy(exported / path.name, path))


def test_graphs_that_draw_something_else_never_appear(traced_before, faces, tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(ValueError, match=r"the graphs are off by .*, expected at most 1e-04"):
        exporting.export(build(seed=1), folder, *faces)
    assert not folder.exists()
    exporting.export(build(), folder, *faces)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="off by"):
        exporting.export(build(seed=1), folder, *faces)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_int8_that_is_too_coarse_never_appears(traced_before, faces, tmp_path, monkeypatch):
    monkeypatch.setattr("depthaware.export.quantization.LEAST_PSNR", {"onnx": 150.0})
    with pytest.raises(ValueError, match=r"int8: .* dB of float32, expected at least 150 dB"):
        exporting.export(build(), tmp_path / "new", *faces, int8=True)
    assert not list(tmp_path.iterdir())


def test_the_command_exports_what_animate_then_runs(traced_before, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build().save_pretrained("weights")
    assert main(["export", "--weights", "weights", "--output", "graphs"]) == 0
    assert capsys.readouterr().out.startswith("graphs: 64 x 64, within ")
    assert main(["animate", "--backend", "onnxruntime", "--weights", "graphs"]) == 0
    assert capsys.readouterr().out.startswith("animation.mp4: ")


def test_what_is_wrong_is_said_in_one_line(exported, tmp_path, monkeypatch, capsys):
    shutil.copytree(exported, tmp_path / "cut")
    (tmp_path / "cut" / "driver.onnx").write_bytes((exported / "driver.onnx").read_bytes()[:999])
    shutil.copytree(exported, tmp_path / "half")
    (tmp_path / "half" / "detector.onnx").unlink()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    run = "animate --backend onnxruntime --weights"
    lines = {
        f"{run} empty": "empty: expected a folder made by `depthaware export`, found no export.json",
        f"{run} dagan-tiny": "dagan-tiny: expected a folder made by `depthaware export`",
        f"{run} cut": "cut/driver.onnx: cannot be loaded",
        f"{run} half": "half/detector.onnx: cannot be loaded",
        f"{run} {exported} --device cuda": "--device cuda: expected cpu, on which onnxruntime works here",
        f"{run} {exported} --dtype float16": "expected of --dtype only float32, and no --compile",
        "export --output new --weights absent": "weights 'absent'",
        "export --output new --calibrate absent.mp4": "absent.mp4: No such file",
        "export --output new --size 50": "expected height and width in multiples of",
        "export --output new --size 0": "--size: expected a number of pixels, got 0",
        "export --output new --format torch --int8": "format: expected onnx, openvino or, unless int8, torch",
    }
    for line, message in lines.items():
        assert main(line.split()) == 2, line
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "empty", "half"]


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_its_extra(package, faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'^{package} is not installed: pip install "depthaware\[export\]"$'):
        exporting.export(build(), tmp_path / "new", *faces)


@pytest.mark.parametrize(
    "options, holder",
    [({}, "detector"), (PRINTED, "detector"), ({"keypoint_input": "rgb"}, "source_encoder"), (OTHER, None)],
)
def test_one_graph_has_the_depth_network_and_inputs_are_those_that_the_model_has(options, holder):
    graphs = trace(build(**options), 64)
    holders = [name for name, graph in graphs.items() if any("depth_net" in key for key in graph.program.state_dict)]
    assert holders == ([holder] if holder else [])
    jacobians = [name for graph in graphs.values() for name in graph.inputs if name.endswith("_jacobian")]
    assert jacobians == ([] if options is PRINTED else ["source_kp_jacobian", "driving_kp_jacobian"])
