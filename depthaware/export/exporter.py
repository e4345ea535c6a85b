"""Export of a DaGAN as three graphs, written only if their outputs match the model's."""

import io
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._optional import require
from ..dagan import DaGAN
from ..media.atomic import whole_folder
from ..pretrained.fingerprint import detector_fingerprint
from .facts import FACTS, SUFFIXES
from .graphs import Graph, trace
from .openvino import convert
from .quantization import quantize_export
from .runtimes import ExportedDaGAN, follow

OPSET = 20  # the first with the GridSample of PyTorch
TOLERANCE = 1e-4
PACKAGES = {
    "onnx": ("export", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("openvino", ("onnx", "onnxscript", "openvino")),
    "torch": ("", ()),
}
BATCHES = (1, 2, 5)  # without 3, the batch size of tracing


class Exported(NamedTuple):
    """Summary of an export.

    Attributes:
        folder: with the three graphs and export.json.
        size: side of the images that the graphs take.
        difference: the largest absolute difference from the model in float32, in frames in [0, 1] and key points.
        psnr: of frames in int8 against those in float32, in dB; None for an export in float32.
    """

    folder: Path
    size: int
    difference: float
    psnr: float | None

    def __str__(self) -> str:
        int8 = "" if self.psnr is None else f", and int8 at {self.psnr:.1f} dB of that"
        return f"{self.folder}: {self.size} x {self.size}, within {self.difference:.0e} of the model{int8}"


@torch.no_grad()
def export(
    model: DaGAN,
    folder: str | Path,
    source_image: Tensor,
    driving_images: Tensor,
    *,
    format: Literal["onnx", "openvino", "torch"] = "onnx",
    int8: bool = False,
) -> Exported:
    """Write the graphs `source_encoder`, `detector` and `driver`, and export.json.

    The number of driving frames is free, the size of the images is not. Relative motion is computed between detector
    and driver and is no graph, see `transfer_motion`.

    Args:
        model: on the CPU.
        folder: made if absent; the only input of `ExportedDaGAN`.
        source_image: (1, 3, H, H) in [0, 1], a real image of the size that the graphs take.
        driving_images: (F, 3, H, H) in [0, 1], frames of a real video in their order, at least 5.
        format: "onnx" (for ONNX Runtime), "openvino" or "torch" (`torch.export`).
        int8: quantize, see `quantize_export`.

    Raises:
        ValueError: if the graphs are off by more than 1e-4, or int8 leaves less than 35 dB (40 dB with OpenVINO).
        ImportError: if a package is missing. After any error the folder is as it was.
    """
    if format not in SUFFIXES or (int8 and format == "torch"):
        raise ValueError(f"format: expected onnx, openvino or, unless int8, torch, got {format!r}")
    if len(driving_images) < max(BATCHES):
        raise ValueError(f"driving images: expected at least {max(BATCHES)}, got {len(driving_images)}")
    extra, packages = PACKAGES[format]
    for package in (*packages, *["nncf"] * (int8 and format == "openvino")):
        require(package, extra)
    size = source_image.shape[-1]
    graphs = trace(model, size)
    facts = _facts(model, graphs, format, size)
    with whole_folder(folder, last=FACTS) as part:
        for name, graph in graphs.items():
            write_graph(graph, part / facts["graphs"][name]["file"])
        _write(facts, part)
        difference = largest_difference(model, ExportedDaGAN(part, allow_code=True), source_image, driving_images)
        if not difference <= TOLERANCE:
            raise ValueError(f"{folder}: the graphs are off by {difference:.1e}, expected at most {TOLERANCE:.0e}")
        psnr = quantize_export(part, source_image, driving_images) if int8 else None
        _write(facts | {"difference": difference, "psnr": psnr}, part)
    return Exported(Path(folder), size, difference, psnr)


def write_graph(graph: Graph, path: Path) -> None:
    """Write one graph as ONNX, for OpenVINO or as PyTorch's .pt2, by the suffix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside PyTorch's exporters
        if path.suffix == SUFFIXES["torch"]:
            content = io.BytesIO()  # on a full disk PyTorch would end the process
            torch.export.save(graph.program, content)
            path.write_bytes(content.getbuffer())
            return
        program = torch.onnx.export(
            graph.program,
            input_names=graph.inputs,
            output_names=graph.outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path.with_suffix(SUFFIXES["onnx"]), external_data=False)
    if path.suffix == SUFFIXES["openvino"]:
        convert(path.with_suffix(SUFFIXES["onnx"]))


def largest_difference(model: DaGAN, exported: ExportedDaGAN, source_image: Tensor, driving_images: Tensor) -> float:
    """Largest difference of frames and key points; relative to the largest value where that exceeds 1 (jacobians)."""
    worst = torch.zeros(())
    for count in BATCHES:
        ours, theirs = (follow(each, source_image, driving_images[:count]) for each in (model, exported))
        for a, b in zip(ours, theirs, strict=True):
            worst = torch.maximum(worst, (a - b).abs().max() / a.abs().max().clamp_min(1))  # keeps NaN
    return worst.item()


def _facts(model: DaGAN, graphs: dict[str, Graph], format: str, size: int) -> dict[str, Any]:
    packages = ["depthaware", "torch", *PACKAGES[format][1]]
    return {
        "format": format,
        "size": size,
        "graphs": {
            name: {"file": f"{name}{SUFFIXES[format]}", "inputs": graph.inputs, "outputs": graph.outputs}
            for name, graph in graphs.items()
        },
        "config": model.config,
        "detector": detector_fingerprint(model, size),
        "versions": {name: version(name) for name in packages},
    }


def _write(facts: dict[str, Any], folder: Path) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
