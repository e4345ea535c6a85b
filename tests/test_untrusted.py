"""Files of others, as folders of weights and exports: nothing in them runs, waits, or takes memory unseen."""

import copy
import io
import json
import os
import re
import shutil
import socket
import struct
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from depthaware import DaGAN, RGBDKeypointDetector, SelfSupDepthNet, animate
from depthaware.cli.main import main
from depthaware.export.facts import read_facts
from depthaware.export.runtimes import ExportedDaGAN
from depthaware.inference.depth_maps import depth_to_file
from depthaware.media.image import to_uint8
from depthaware.pretrained import hub, options
from depthaware.pretrained.tensors import read_header
from depthaware.retrofit import fomm

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=5,
)
EXTREME = st.sampled_from([0, -1, 10**9, 2**63, 200_000, 1e308, float("nan"), "", "x" * 5000, [[]] * 5, {}, None, True])
several = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def weights(tiny_weights, tmp_path_factory) -> Path:
    """A copy of the tiny weights, to be changed and mended again."""
    return Path(shutil.copytree(tiny_weights, tmp_path_factory.mktemp("untrusted") / "weights"))


def refusal(call: Any, *args: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(ValueError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def either(call: Any, *args: Any) -> None:
    """A result within 5 s, or one short line."""
    start = time.process_time()
    try:
        call(*args)
    except ValueError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 1000
    assert time.process_time() - start < 5


def edit(folder: Path, change: dict[str, Any], file: str = "config.json") -> None:
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))


# Options


@pytest.mark.parametrize("model_class", [DaGAN, SelfSupDepthNet, RGBDKeypointDetector])
def test_every_option_has_a_kind_and_every_default_is_of_it(model_class):
    config = model_class(**({"keypoint_input": "rgb", "attention": "none"} if model_class is DaGAN else {})).config
    assert config.keys() <= options.MODEL.keys()
    options.check_options(config)


@pytest.mark.parametrize("name, kind", options.MODEL.items(), ids=list(options.MODEL))
def test_a_constructor_names_the_option_that_is_out_of_range(name, kind):
    for value in (None, -1, 10**9, float("nan"), "hf-hub:user/model", "../resnet18", [1] * 4, {}):
        makers = {"encoder": SelfSupDepthNet, "decoder_channels": SelfSupDepthNet}
        own = ("input", "block_expansion", "max_features", "num_blocks", "temperature", "padding")
        make = makers.get(name, RGBDKeypointDetector if name in own else DaGAN)
        assert refusal(lambda make=make, value=value: make(**{name: value})).startswith(f"{name}: expected ")


@several
@given(st.dictionaries(st.sampled_from([*options.MODEL, "class", "pretrained", "self", "extra"]), JSON | EXTREME))
def test_no_config_ends_in_anything_but_a_line(weights, changes):
    before = (weights / "config.json").read_text()
    edit(weights, changes)
    try:
        for model_class in (DaGAN, SelfSupDepthNet, RGBDKeypointDetector):
            either(model_class.from_pretrained, weights)
    finally:
        (weights / "config.json").write_text(before)


@pytest.mark.parametrize(
    "change",
    [
        {"depth_encoder": "hf-hub:evil/x"},
        {"depth_encoder": "local-dir:/tmp"},
        {"depth_encoder": "hf_hub:evil/x"},
        {"class": "SelfSupDepthNet", "pretrained": True},
        {"num_bottleneck_blocks": 10**9},
        {"generator_max_features": 16384, "generator_block_expansion": 4096, "num_down_blocks": 12},
        {"depth_encoder": "wide_resnet101_2", "depth_channels": [4096] * 5},
    ],
    ids=str,
)
def test_a_config_alone_reaches_no_network_and_takes_no_memory(change, weights, tmp_path, monkeypatch):
    folder = shutil.copytree(weights, tmp_path / "it")
    edit(folder, change)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went to the network"))
    allocated: list[int] = []
    empty = torch.Tensor.uniform_

    def watched(tensor, *args, **kwargs):
        allocated.append(0 if tensor.is_meta else tensor.nbytes)
        return empty(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "uniform_", watched)
    either(SelfSupDepthNet.from_pretrained if "class" in change else DaGAN.from_pretrained, folder)
    assert sum(allocated) < 1 << 20


# Tensors


def headed(header: Any, data: bytes = b"") -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3", "C64", "F4", 3, None]),
        "shape": st.lists(st.integers(-1, 2**64), max_size=4) | JSON,
        "data_offsets": st.tuples(st.integers(-1, 2**64), st.integers(-1, 2**64)) | JSON,
    },
)


@several
@given(header=st.dictionaries(st.sampled_from(["a", "b", "kp_detector.kp.bias", "__metadata__"]), ENTRY | JSON) | JSON)
def test_no_header_ends_in_anything_but_a_line(weights, header):
    before = (weights / "model.safetensors").read_bytes()
    (weights / "model.safetensors").write_bytes(headed(header, bytes(64)))
    try:
        either(DaGAN.from_pretrained, weights)
        either(SelfSupDepthNet.from_pretrained, weights)
    finally:
        (weights / "model.safetensors").write_bytes(before)


HEADERS = {
    "a million names": (
        lambda: headed(b'{"a":0' + b',"b":0' * 1_000_000 + b"}"),
        "header has 6000007 bytes, expected at most",
    ),
    "too deep": (lambda: headed(b'{"a":' + b"[" * 100_000), "header is damaged"),
    "an endless length": (lambda: struct.pack("<Q", 2**63) + b'{"a": 1}', "not a whole safetensors file"),
    "a huge tensor": (
        lambda: headed({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        "do not fit the configuration",
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_is_read_within_bounds(kind, weights, tmp_path):
    content, expected = HEADERS[kind]
    folder = shutil.copytree(weights, tmp_path / "it")
    (folder / "model.safetensors").write_bytes(content())
    start = time.process_time()
    assert re.search(expected, refusal(DaGAN.from_pretrained, folder))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("dtype", ["int8", "int32", "bool", "complex64", "float8_e4m3fn", "uint8"])
def test_numbers_of_another_kind_are_refused_by_name(dtype, weights, tmp_path):
    tensors = load_file(weights / "model.safetensors")
    key = "generator.decoder.final.weight"
    tensors[key] = tensors[key].to(getattr(torch, dtype))
    folder = shutil.copytree(weights, tmp_path / "it")
    save_file(tensors, folder / "model.safetensors")
    line = refusal(DaGAN.from_pretrained, folder)
    assert re.search(rf"{key} is of dtype \w+, expected float16, bfloat16, float32, float64$", line), line
    torch.save({"generator": {"final.weight": tensors[key]}, "kp_detector": {}}, tmp_path / "x.pth.tar")
    assert refusal(DaGAN.from_checkpoint, tmp_path / "x.pth.tar")


@pytest.mark.parametrize(
    "value, expected",
    [
        (lambda t: torch.full_like(t, 1e300, dtype=torch.float64), "not finite"),  # in float32, not in the file
        (lambda t: -t - 1, "has negative values, which no variance has"),
    ],
)
def test_values_are_checked_as_they_will_be_used(value, expected, weights, tmp_path):
    tensors = load_file(weights / "model.safetensors")
    key = next(key for key in tensors if key.endswith("running_var"))
    folder = shutil.copytree(weights, tmp_path / "it")
    save_file(tensors | {key: value(tensors[key])}, folder / "model.safetensors")
    assert f"{key} has" in (line := refusal(DaGAN.from_pretrained, folder)) and expected in line


def test_a_pipe_is_no_file(weights, tmp_path):
    for name in ("config.json", "model.safetensors", "export.json"):
        folder = shutil.copytree(weights, tmp_path / name)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert name in refusal(ExportedDaGAN if name == "export.json" else DaGAN.from_pretrained, folder)


@pytest.mark.parametrize("name, size", [("config.json", 2 << 20), ("README.md", 5 << 20)])
def test_small_files_stay_small(name, size, weights, tmp_path):
    folder = shutil.copytree(weights, tmp_path / "it")
    (folder / name).write_text(" " * size)
    assert re.search(rf"{name}: is too large \({size} bytes\), expected at most \d+$", refusal(hub.load, DaGAN, folder))


@pytest.mark.filterwarnings("ignore:no face found")
def test_a_result_that_is_no_number_ends_the_run(tiny_model, tmp_path):
    model, image = copy.deepcopy(tiny_model), torch.rand(3, 64, 64)
    model.generator.decoder.final.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"^animation: the model's results are not finite numbers"):
        list(animate(model, image, [image], fit="crop"))
    model.depth_net.heads[0].bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"^depth: the model's results are not finite numbers"):
        depth_to_file(model, to_uint8(image[None])[0], tmp_path / "depth.png")
    assert not list(tmp_path.iterdir())


# Exports


class Marker:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


GRAPH = {"file": "g.onnx", "inputs": ["x"], "outputs": ["y"]}
GRAPHS = {"source_encoder": GRAPH, "detector": GRAPH | {"outputs": ["kp_value"]}, "driver": GRAPH}
GOOD = {"format": "onnx", "size": 64, "config": {}, "graphs": GRAPHS}
CHANGES = [st.dictionaries(st.sampled_from([*facts]), JSON) for facts in (GOOD, GRAPH)]


def write_export(folder: Path, facts: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "export.json").write_text(json.dumps(facts))
    return folder


def with_graph(**change: Any) -> dict[str, Any]:
    return GOOD | {"graphs": GRAPHS | {"driver": GRAPH | change}}


def test_the_good_one_is_good(tmp_path):
    assert read_facts(write_export(tmp_path, GOOD)) == GOOD


BAD_FACTS = {
    "another suffix": (with_graph(file="g.pt2"), "driver: file: expected the bare name of a .onnx file, got 'g.pt2'"),
    "above": (with_graph(file="../g.onnx"), "file: expected the bare name"),
    "absolute": (with_graph(file="/etc/x.onnx"), "file: expected the bare name"),
    "on Windows": (with_graph(file="C:x.onnx"), "file: expected the bare name"),
    "no name": (with_graph(file=".onnx"), "file: expected the bare name"),
    "no file": (with_graph(file=None), "file: expected the bare name"),
    "no inputs": (with_graph(inputs=[]), "inputs: expected one name or more"),
    "an input twice": (with_graph(inputs=["x", "x"]), "inputs: expected one name or more, each once"),
    "numbered inputs": (with_graph(inputs=[1]), "inputs: expected a list"),
    "a graph less": (GOOD | {"graphs": {"driver": GRAPH}}, "expected source_encoder .* found 'driver'"),
    "no graphs": (GOOD | {"graphs": None}, "graphs: expected an object, got None"),
    "a size in words": (GOOD | {"size": "x"}, "size: expected a whole number from 1 to 8192, got 'x'"),
    "a size of nothing": (GOOD | {"size": 0}, "size: expected a whole number"),
    "another format": (GOOD | {"format": "pickle"}, "format: expected 'onnx', 'openvino' or 'torch', got 'pickle'"),
    "a bad option": (GOOD | {"config": {"image_size": -1}}, "image_size: expected a whole number"),
    "no format": ({}, "expected format .* found ''"),
}


@pytest.mark.parametrize("kind", BAD_FACTS)
def test_an_export_is_described_in_full_before_it_is_opened(kind, tmp_path, capsys):
    facts, expected = BAD_FACTS[kind]
    line = refusal(ExportedDaGAN, write_export(tmp_path, facts))
    assert line.startswith(str(tmp_path / "export.json")) and re.search(expected, line), line
    assert main(["animate", "--backend", "onnxruntime", "--weights", str(tmp_path)]) == 2


@several
@given(JSON | st.builds(lambda facts, graph: GOOD | with_graph(**graph) | facts, *CHANGES))
def test_no_export_ends_in_anything_but_a_line(tmp_path_factory, facts):
    either(ExportedDaGAN, write_export(tmp_path_factory.mktemp("export"), facts))


def test_opening_an_export_runs_nothing(tmp_path):
    payload = io.BytesIO()
    torch.save(Marker(tmp_path / "ran"), payload)

    class Double(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    torch.export.save(torch.export.export(Double(), (torch.ones(3),)), tmp_path / "plain.pt2")
    with zipfile.ZipFile(tmp_path / "plain.pt2") as source, zipfile.ZipFile(tmp_path / "g.pt2", "w") as archive:
        for name in source.namelist():
            archive.writestr(name, payload.getvalue() if "sample_inputs" in name else source.read(name))
    for format in ("onnx", "torch"):
        facts = json.loads(json.dumps(GOOD | {"format": format}).replace("g.onnx", "g.pt2"))
        for name in ("g.pt2", "g.onnx"):
            write_export(tmp_path, json.loads(json.dumps(facts).replace("g.pt2", name)))
            refusal(ExportedDaGAN, tmp_path)
            assert not (tmp_path / "ran").exists()
    write_export(tmp_path, json.loads(json.dumps(GOOD | {"format": "torch"}).replace("g.onnx", "g.pt2")))
    assert "can run any code" in refusal(ExportedDaGAN, tmp_path)
    with suppress(Exception):  # it is no model
        ExportedDaGAN(tmp_path, allow_code=True).detect_keypoints(torch.zeros(1, 3, 64, 64))
    assert (tmp_path / "ran").exists()  # the file is as bad as it looks


# Retrofits


@several
@given(st.dictionaries(st.sampled_from(["family", "everything", "fingerprints", "fdn", "cam", "levels", "more"]), JSON))
def test_no_retrofit_ends_in_anything_but_a_line(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("retrofit")
    prints = {"kp_detector": "0" * 64, "generator": "0" * 64}
    config = {"family": "fomm", "fdn": True, "cam": True, "everything": False, "fingerprints": prints}
    (folder / "config.json").write_text(json.dumps(config | changes))
    assert refusal(fomm.load_retrofit, folder, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))


def test_the_header_says_what_is_in_the_file(weights):
    tensors = load_file(weights / "model.safetensors")
    stored = read_header(weights / "model.safetensors")
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()} == stored
    assert TINY["num_keypoints"] == stored["kp_detector.kp.weight"].shape[0]
