"""Smaller files of quantized ONNX graphs: weights in 16 bits, and one file of weights for two graphs."""

from pathlib import Path
from typing import Any

from .._optional import require

_SMALL = 1024  # bytes: smaller constants stay in the graph as they are


def slim(path: Path, twin: Path) -> None:
    """Rewrite a quantized graph with its weights beside it, and add a twin that computes in float32.

    Both read the same weights, from `path` with the suffix .bin. Those in float32 become float16.

    Args:
        path: of a graph in Q/DQ form.
        twin: of the graph without rounding of activations, for GPUs, which have no kernels for it.
    """
    onnx = require("onnx", "export")
    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where in the source code it comes from
    halve_weights(model)
    weights = path.with_suffix(".bin")
    onnx.save_model(model, path, save_as_external_data=True, location=weights.name, size_threshold=_SMALL)
    weights.chmod(path.stat().st_mode)  # web servers are other users
    model = onnx.load(path, load_external_data=False)
    drop_rounding(model)
    twin.write_bytes(model.SerializeToString())


def halve_weights(model: Any) -> None:
    """Store weights in float32 as float16, followed by a conversion, which is folded when the graph is loaded.

    Scales of integers stay: those of biases, some 1e-5, would lose most of their digits.
    """
    onnx = require("onnx", "export")
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= _SMALL and tensor.name not in scales:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}.half"))
            model.graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))


def drop_rounding(model: Any) -> None:
    """Replace each QuantizeLinear of an activation, with the DequantizeLinear behind it, by a direct connection."""
    graph = model.graph
    exact = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    exact |= {node.output[0]: node.input[0] for node in graph.node if node.input and node.input[0] in exact}
    kept = [node for node in graph.node if node.output[0] not in exact]
    for node in kept:
        for index, name in enumerate(node.input):
            while name in exact:
                name = exact[name]
            node.input[index] = name
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
