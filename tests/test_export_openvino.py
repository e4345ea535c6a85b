"""Exports for OpenVINO draw what the model draws, in int8 nearly so, and the fastest way that does is found."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_export import MEDIA, assert_draws_the_same, build, exported, faces  # noqa: F401

from depthaware import DaGAN, animate, read_image
from depthaware.cli.main import main
from depthaware.export import choice, quantization
from depthaware.export import exporter as exporting
from depthaware.export.facts import read_facts
from depthaware.export.graphs import Graph
from depthaware.export.openvino import convert, open_openvino
from depthaware.export.quantization import quantize_export
from depthaware.export.runtimes import ExportedDaGAN, follow

pytest.importorskip("openvino")
FILES = sorted(["export.json", *(f"{n}.{s}" for n in ("detector", "driver", "source_encoder") for s in ("bin", "xml"))])


@pytest.fixture
def traced(exported, monkeypatch):  # noqa: F811
    """Whatever model is exported, the graphs are those of `exported`, here for OpenVINO."""
    graphs = read_facts(exported)["graphs"]
    known: Any = {name: Graph(None, graph["inputs"], graph["outputs"]) for name, graph in graphs.items()}

    def write(graph: Graph, path: Path) -> None:
        convert(Path(shutil.copy(exported / f"{path.stem}.onnx", path.parent)))

    monkeypatch.setattr(exporting, "trace", lambda model, size: known)
    monkeypatch.setattr(exporting, "write_graph", write)


@pytest.fixture(scope="module")
def ours(exported, tmp_path_factory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("openvino") / "graphs"
    shutil.copytree(exported, folder)
    for path in list(folder.glob("*.onnx")):
        convert(path)
    facts = read_facts(exported)
    for graph in facts["graphs"].values():
        graph["file"] = graph["file"].replace(".onnx", ".xml")
    (folder / "export.json").write_text(json.dumps(facts | {"format": "openvino"}))
    return folder


def test_the_export_draws_what_the_model_draws_for_any_number_of_frames(traced, faces, tmp_path):  # noqa: F811
    exporting.export(build(), tmp_path / "graphs", *faces, format="openvino")
    assert sorted(path.name for path in (tmp_path / "graphs").iterdir()) == FILES
    assert ExportedDaGAN(tmp_path / "graphs").runtime == "openvino"
    assert_draws_the_same(tmp_path / "graphs", build(), *faces)
    with pytest.raises(ValueError, match=r"the graphs are off by .*, expected at most 1e-04"):
        exporting.export(build(seed=1), tmp_path / "other", *faces, format="openvino")
    assert not (tmp_path / "other").exists()


def test_it_reads_onnx_too_and_waits_for_one_frame_or_many(exported, faces):  # noqa: F811
    source, driving = faces
    many, one = (ExportedDaGAN(exported, runtime="openvino", live=live) for live in (False, True))
    wanted = follow(build().eval(), source, driving)
    for model in (many, one):
        torch.testing.assert_close(follow(model, source, driving), wanted, atol=1e-4, rtol=0)
    low = follow(ExportedDaGAN(exported, runtime="openvino", dtype=torch.bfloat16), source, driving)[0]
    assert -10 * (low - wanted[0]).square().mean().log10() > 25


@pytest.mark.parametrize("least, left", [(40.0, True), (quantization.LEAST_PSNR["openvino"] + 200, False)])
def test_int8_keeps_the_frames_or_is_refused(least, left, ours, faces, tmp_path, monkeypatch, capsys):  # noqa: F811
    pytest.importorskip("nncf")
    monkeypatch.setitem(quantization.LEAST_PSNR, "openvino", least)
    monkeypatch.setitem(quantization.CHOICES, "openvino", quantization.CHOICES["openvino"][: 4 if left else 1])
    shutil.copytree(ours, tmp_path / "int8")
    if not left:
        with pytest.raises(ValueError, match=r"int8: .* dB of float32, expected at least 240 dB"):
            quantize_export(tmp_path / "int8", *faces)
        return
    psnr = quantize_export(tmp_path / "int8", *faces)
    assert not capsys.readouterr().out  # NNCF shows bars
    exact, coarse = (follow(ExportedDaGAN(folder), *faces)[0] for folder in (ours, tmp_path / "int8"))
    assert psnr >= 40
    assert -10 * (exact - coarse).square().mean().log10() >= 35
    assert not torch.equal(exact, coarse)
    sizes = [(folder / "driver.bin").stat().st_size for folder in (ours, tmp_path / "int8")]
    assert sizes[1] < 0.75 * sizes[0]


def test_networks_that_hurt_are_left_out_until_the_frames_are_near_enough(ours, faces, tmp_path, monkeypatch):  # noqa: F811
    tried = []
    monkeypatch.setattr(quantization, "quantize", lambda *arguments: tried.append(arguments[-1]))
    monkeypatch.setitem(quantization.LEAST_PSNR, "openvino", float("inf"))
    monkeypatch.setattr(quantization, "follow", lambda *arguments: [torch.full((), float(len(tried)))])
    shutil.copytree(ours, tmp_path / "int8")
    with pytest.raises(ValueError, match="int8"):
        quantize_export(tmp_path / "int8", *faces)
    assert tried[::3] == quantization.CHOICES["openvino"]
    sizes = [len(networks) for networks in quantization.CHOICES["openvino"]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_fastest_way_that_draws_the_same_is_taken_and_named(exported, ours, monkeypatch):  # noqa: F811
    model, lines = build(), []
    clock = iter(range(10**6))
    monkeypatch.setattr(choice, "optimize", lambda model, **dtype: Waiting(model))
    monkeypatch.setattr(choice.time, "perf_counter", lambda: WAITED[0] + next(clock) * 1e-6)
    found = choice.choose_fastest(model, [ours], batch_size=2, notes=lines.append)
    assert isinstance(found, ExportedDaGAN)
    (line,) = lines
    assert line.startswith(f"backend: {found.runtime} ") and "dB of float32" in line and "frames/s" in line
    other = choice.choose_fastest(build(seed=3), [exported], batch_size=2, notes=lines.append)
    assert isinstance(other, Waiting)  # the export is of another model, and draws something else
    assert lines[1].startswith("backend: torch ") and ", 0 of them below 40 dB" not in lines[1]


WAITED = [0.0]


class Waiting:
    """A model whose frames seem to take long."""

    def __init__(self, model: DaGAN) -> None:
        self.model, self.image_size = model, model.image_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def drive(self, *arguments: Any, **options: Any) -> Any:
        WAITED[0] += 10.0
        return self.model.drive(*arguments, **options)


def test_animation_runs_on_it_from_the_command_line(ours, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    portrait = read_image(str(MEDIA / "portrait.png"))
    frames = [frame.image for frame in animate(ExportedDaGAN(ours), portrait, [portrait, portrait[:, ::-1]])]
    assert len(frames) == 2
    still = f"--source {MEDIA / 'portrait.png'} --driving {MEDIA / 'portrait.png'} --fit crop"
    assert main(f"animate --backend openvino --device AUTO --weights {ours} {still}".split()) == 0
    assert capsys.readouterr().out.startswith("animation.png")


def test_what_is_wrong_is_said_in_one_line(exported, ours, tmp_path, monkeypatch, capsys):  # noqa: F811
    shutil.copytree(ours, tmp_path / "cut")
    (tmp_path / "cut" / "driver.xml").write_text((ours / "driver.xml").read_text()[:999])
    monkeypatch.chdir(tmp_path)
    run = "animate --backend openvino --weights"
    lines = {
        f"{run} dagan-tiny": "dagan-tiny: expected a folder made by `depthaware export`",
        f"{run} cut": "cut/driver.xml: cannot be loaded",
        f"{run} {ours} --device TPU": "device TPU: not available to OpenVINO, expected CPU, ",
        f"{run} {ours} --compile": "--backend openvino: expected of --dtype only float32 or bfloat16, and no --compile",
        f"animate --backend onnxruntime --weights {ours}": "expected an export in the format onnx for",
        f"animate --graphs {ours}": "--graphs: are tried by --backend auto, got --backend torch",
        f"animate --backend auto --graphs {ours}": "is for images of 64 pixels, expected 256",
        "animate --backend auto --graphs absent": "absent: expected a folder made by `depthaware export`",
    }
    for line, message in lines.items():
        assert main(line.split()) == 2, line
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, (line, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut"]


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_a_missing_package_is_named_with_its_extra(package, faces, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'^{package} is not installed: pip install "depthaware\[openvino\]"$'):
        exporting.export(build(), tmp_path / "new", *faces, format="openvino", int8=True)


def test_a_graph_with_other_names_than_export_json_is_refused(ours):
    with pytest.raises(ValueError, match=r"expected picture as in export\.json, found image"):
        open_openvino(ours / "detector.xml", {"inputs": ["picture"], "outputs": []})
