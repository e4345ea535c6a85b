"""Graphs for OpenVINO: conversion, quantization to int8, and running them on its devices."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._optional import require

_EXACT = {"Constant", "Parameter", "Result", "Concat", "Relu", "AvgPool", "MaxPool"}
"""What a convolution's integers may pass; everything else, coordinates among it, stays in float32."""


def convert(path: Path) -> Path:
    """Replace a graph in ONNX by the same one in OpenVINO's form, two files with the suffixes .xml and .bin."""
    openvino = require("openvino", "openvino")
    target = path.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(path), target, compress_to_fp16=False)
    path.unlink()
    return target


def check_device(device: str) -> str:
    """Return the name of one of OpenVINO's devices as it spells it.

    Raises:
        ValueError: if it is not there.
    """
    name, known = device.upper(), require("openvino", "openvino").Core().available_devices
    if name != "AUTO" and name not in known:
        raise ValueError(f"device {device}: not available to OpenVINO, expected {', '.join([*known, 'AUTO'])}")
    return name


def open_openvino(
    path: Path,
    names: dict[str, Any],
    device: str = "CPU",
    *,
    dtype: torch.dtype = torch.float32,
    live: bool = False,
) -> Callable[..., Any]:
    """Load a graph as a function from its inputs to its outputs.

    It is compiled for single frames: their attention is fused then, and frames of a batch run side by side.

    Args:
        path: of the .xml file, or of one in ONNX.
        names: lists of the names of its "inputs" and "outputs".
        device: one of OpenVINO's.
        dtype: of what was not quantized; in bfloat16 coordinates are rounded, too.
        live: all threads work on one frame, for the least delay; otherwise each has its own, for the most frames.
    """
    openvino = require("openvino", "openvino")
    core, threads = openvino.Core(), torch.get_num_threads()
    model = core.read_model(path)
    for side, ports in (("inputs", model.inputs), ("outputs", model.outputs)):
        if (found := {port.any_name for port in ports}) != set(names[side]):
            expected = ", ".join(names[side])
            raise ValueError(f"{path}: expected {expected} as in export.json, found {', '.join(found)}")
    free = [model.input(name).partial_shape.is_dynamic for name in names["inputs"]]
    model.reshape(_single(model))
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY" if live else "THROUGHPUT"}
    if device == "CPU":  # others have precisions of their own
        hints["INFERENCE_PRECISION_HINT"] = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
        hints |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1 if live else threads}
    compiled = core.compile_model(model, device, hints)
    queue = openvino.AsyncInferQueue(compiled)

    def run(*tensors: Tensor) -> list[Tensor]:
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        counts = {len(array) for array, moves in zip(arrays, free, strict=True) if moves} or {1}
        (count,) = counts
        outputs = [np.empty((count, *compiled.output(name).shape[1:]), np.float32) for name in names["outputs"]]

        def keep(request: Any, index: int) -> None:
            for name, output in zip(names["outputs"], outputs, strict=True):
                output[index] = request.get_tensor(name).data[0]

        queue.set_callback(keep)
        for index in range(count):
            parts = (array[index : index + 1] if moves else array for array, moves in zip(arrays, free, strict=True))
            queue.start_async(dict(zip(names["inputs"], parts, strict=True)), index)
        queue.wait_all()
        return [torch.from_numpy(output) for output in outputs]

    return run


def _single(model: Any) -> dict[str, list[int]]:
    """Shapes of the inputs for a batch of one."""
    shapes = {port.any_name: port.partial_shape for port in model.inputs}
    return {name: [1, *(size.get_length() for size in list(shape)[1:])] for name, shape in shapes.items()}


def quantize_openvino(
    path: Path,
    output: Path,
    inputs: Sequence[str],
    calibration: Sequence[Sequence[Tensor]],
    may_round: Callable[[str], bool],
) -> None:
    """Quantize the convolutions of a graph to int8 by NNCF.

    Args:
        path: of the .xml file in float32.
        output: path of the result.
        inputs: names of its inputs.
        calibration: sample inputs, in that order, from which the ranges of activations are measured.
        may_round: tells of the name of a convolution's weight whether it may be quantized.
    """
    openvino, nncf = require("openvino", "openvino"), require("nncf", "openvino")
    nncf.set_log_level(40)  # errors
    model = openvino.Core().read_model(path)
    samples = [dict(zip(inputs, (x.numpy() for x in tensors), strict=True)) for tensors in calibration]
    kept = [node.get_friendly_name() for node in model.get_ordered_ops() if not _quantizes(node, may_round)]
    with redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )
    part = output.with_name("part.xml")
    openvino.save_model(quantized, part, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):  # others may have mapped the files of that name
        part.with_suffix(suffix).replace(output.with_suffix(suffix))


def _quantizes(node: Any, may_round: Callable[[str], bool]) -> bool:
    if node.get_type_name() != "Convolution":
        return node.get_type_name() in _EXACT
    weight = node.input_value(1).get_node()
    while weight.get_input_size():
        weight = weight.input_value(0).get_node()
    return may_round(weight.get_friendly_name())
