"""Convert the BlazeFace graphs of MediaPipe to the weights bundled with depthaware.faces, and check these against them.

    npm pack @mediapipe/face_detection   # makes a .tgz
    pip install ai-edge-litert
    python examples/benchmarks/convert_face_detector.py --package mediapipe-face_detection-*.tgz --images FOLDER

With `--images`, both graphs and both networks look at up to 50 of the images, and the largest difference is printed.
Without `--output` nothing is written, and the bundled weights are checked.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import depthaware
from depthaware._optional import require
from depthaware.faces.blazeface import FullRange, ShortRange, anchor_centers
from depthaware.faces.views import decode, load_network
from depthaware.media.image import find_images, fit_square, read_image
from depthaware.training.options import option, required, run_recipe

GRAPHS = {
    "short_range": (ShortRange, "face_detection_short_range.tflite"),
    "full_range": (FullRange, "face_detection_full_range_sparse.tflite"),
}

PORTRAIT = Path(depthaware.__file__).parent / "assets" / "portrait.png"


@dataclass(frozen=True)
class Options:
    """Graphs, images that they are compared on, and results."""

    package: str = required(
        "the .tgz of the npm package @mediapipe/face_detection", "npm pack @mediapipe/face_detection makes one"
    )
    images: str = option("", "a folder of images on which graphs and networks are compared")
    output: str = option("", "folder for the weights; the bundled ones are checked if there is none")
    golden: str = option("", "an .npz for the graphs' outputs on the bundled portrait")


def load_graph(package: str, name: str) -> Any:
    """Interpreter of a graph in the package that keeps all tensors, so that the weights can be read from it."""
    interpreter = require("ai_edge_litert.interpreter", pip="ai-edge-litert")
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"package/{name}")
        assert file is not None
        content = file.read()
    graph = interpreter.Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    graph.allocate_tensors()
    return graph


def run_graph(graph: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N,) and offsets (N, 16) for an image, float32 (side, side, 3) in [-1, 1]."""
    graph.set_tensor(graph.get_input_details()[0]["index"], image[None])
    graph.invoke()
    outputs = [graph.get_tensor(output["index"])[0] for output in graph.get_output_details()]
    logits, offsets = sorted(outputs, key=lambda output: output.shape[-1])
    return logits[:, 0], offsets


def graph_weights(graph: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution in order of execution, dense, float32, in PyTorch's layout."""
    run_graph(graph, np.zeros(graph.get_input_details()[0]["shape"][1:], np.float32))  # makes them dense
    for op in graph._get_ops_details():
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weight, bias = (torch.tensor(graph.get_tensor(index)) for index in op["inputs"][1:])
            order = (0, 3, 1, 2) if op["op_name"] == "CONV_2D" else (3, 0, 1, 2)
            yield weight.permute(order).contiguous(), bias


def convert(graph: Any, network: nn.Module) -> None:
    """Copy the weights of a graph into the network, whose convolutions run in the same order."""
    convolutions: list[nn.Conv2d] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: convolutions.append(module))
    with torch.no_grad():
        network(torch.zeros(1, 3, network.side, network.side))
        for convolution, (weight, bias) in zip(convolutions, graph_weights(graph), strict=True):
            convolution.weight.copy_(weight)  # an error if the shapes differ, broadcasting aside
            convolution.bias.copy_(bias)


def compare(graph: Any, network: ShortRange | FullRange, paths: list[Path]) -> str:
    """Largest differences between the decoded outputs of graph and network over images, each cut to a square."""
    centers = anchor_centers(network.anchors, network.side, network.side).numpy()
    most = np.zeros(3)  # logit, box, points
    for path in paths:
        square = fit_square(read_image(path), network.side) * 2 - 1
        expected_logits, expected = run_graph(graph, square[0].permute(1, 2, 0).contiguous().numpy())
        with torch.inference_mode():
            logits, offsets = (output[0].numpy() for output in network(square))
        boxes, points = decode(offsets, centers)
        expected_boxes, expected_points = decode(expected, centers)
        pairs = ((logits, expected_logits), (boxes, expected_boxes), (points, expected_points))
        most = np.maximum(most, [np.abs(a - b).max() for a, b in pairs])
    return f"{len(paths)} images: logits within {most[0]:.1e}, boxes {most[1]:.1e} px, points {most[2]:.1e} px"


def golden(graph: Any, side: int) -> dict[str, np.ndarray]:
    """Outputs of a graph for the bundled portrait at the anchors with the highest logits."""
    square = fit_square(read_image(PORTRAIT), side) * 2 - 1
    logits, offsets = run_graph(graph, square[0].permute(1, 2, 0).contiguous().numpy())
    anchors = np.argsort(-logits)[:64]
    return {"anchors": anchors, "logits": logits[anchors], "offsets": offsets[anchors]}


def main(options: Options) -> None:
    paths = find_images(Path(options.images))[:50] if options.images else ()
    arrays = {}
    for name, (build, file) in GRAPHS.items():
        graph = load_graph(options.package, file)
        network = build().eval() if options.output else load_network(name)
        if options.output:
            convert(graph, network)
            Path(options.output).mkdir(parents=True, exist_ok=True)
            weights = {key: value.half() for key, value in network.state_dict().items()}  # as in the graph
            save_file(weights, Path(options.output, f"{name}.safetensors"))
        if paths:
            print(f"{name}: {compare(graph, network, list(paths))}")
        arrays |= {f"{name}_{key}": value for key, value in golden(graph, network.side).items()}
    if options.golden:
        np.savez_compressed(options.golden, **arrays)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
