"""Costs of loading weights: hardly more memory than the model, and no model is left half changed."""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthaware import RGBDKeypointDetector
from depthaware.export import exporter
from depthaware.export.graphs import Graph
from depthaware.pretrained import hub
from depthaware.pretrained.tensors import fill_from_file

LARGE = {"input": "rgb", "block_expansion": 128, "max_features": 1024, "num_blocks": 4}


def memory(kind: str) -> int:
    return int(re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs to reset the peak of memory")
def test_loading_takes_hardly_more_than_the_model(tmp_path):
    """At most twice the file, which the model alone takes of weights in 16 bits."""
    torch.manual_seed(0)
    RGBDKeypointDetector(**LARGE).save_pretrained(tmp_path)
    size = os.path.getsize(tmp_path / "model.safetensors")
    RGBDKeypointDetector.from_pretrained(tmp_path)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    model = RGBDKeypointDetector.from_pretrained(tmp_path)
    taken = memory("VmHWM") - before
    assert model and size > 80e6 and taken < 1.5 * size


def test_a_file_fills_all_of_a_model_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("depthaware.pretrained.tensors._PART", 100)
    model = torch.nn.Sequential(*(torch.nn.Linear(5, 5) for _ in range(4)))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / "good.safetensors")
    save_file(load_file(tmp_path / "good.safetensors") | {"3.bias": torch.full((5,), torch.nan)}, tmp_path / "bad")
    with pytest.raises(ValueError, match=r"bad: 3.bias has values that are not finite"):
        fill_from_file(model, tmp_path / "bad")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    hub.load_weights(model, tmp_path, "good.safetensors")
    assert all(torch.equal(tensor, tensors[name] + 1) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_graph_on_a_full_disk_is_an_error_of_the_system(tmp_path, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    (tmp_path / f"g{suffix}").symlink_to("/dev/full")
    graph = Graph(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), ["x"], ["y"])
    with pytest.raises(OSError, match="No space left on device"):
        exporter.write_graph(graph, tmp_path / f"g{suffix}")
