"""Int8 quantization for the CPU: most convolutions of an exported model, calibrated on real frames."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .._optional import require
from .facts import read_facts
from .openvino import quantize_openvino
from .runtimes import ExportedDaGAN, follow, relative

LEAST_PSNR = {"onnx": 35.0, "openvino": 40.0}
# By weight name. Attention and what locates key points stay in float32, since their errors move or mix whole regions,
# and so do the last convolutions of each network, since their quantization steps are visible.
_GENERATOR = ("generator.appearance_encoder.", "generator.depth_encoder.", "generator.decoder.")
_NETWORKS = ("depth_net.", "dense_motion.hourglass.", *_GENERATOR)
CHOICES: dict[str, list[tuple[str, ...]]] = {
    "onnx": [_NETWORKS],
    "openvino": [("kp_detector.hourglass.", *_NETWORKS), _NETWORKS, _NETWORKS[1:], _GENERATOR],
}
"""Networks to be quantized, most first: each is tried until the frames are near enough."""
_LAST = (".head.", ".end.", ".final.", ".conv_img.")


def quantize_export(folder: Path, source_image: Tensor, driving_images: Tensor) -> float:
    """Quantize the graphs of an export in place.

    With OpenVINO, networks whose rounding moves the frames too far are left in float32.

    Args:
        folder: with an export in the format "onnx" or "openvino", in float32.
        source_image: (1, 3, H, H) in [0, 1].
        driving_images: (F, 3, H, H) in [0, 1], frames of a real video in their order; the first half is for
            calibration, the second for the PSNR.

    Returns:
        PSNR of the frames against those in float32, in dB.

    Raises:
        ValueError: if that is below 35 dB, with OpenVINO 40 dB.
    """
    exported = ExportedDaGAN(folder)
    calibration_images, held_out = driving_images.chunk(2)
    before, *_ = follow(exported, source_image, held_out)
    source = exported.encode_source(source_image)
    moved = relative(source.keypoints, exported.detect_keypoints(calibration_images))
    images = [(image,) for image in calibration_images.split(1)]
    sources = [exported.encoder_inputs(image) for image in (source_image, *calibration_images.split(1))]
    fixed = (source_image, *source.encoding, *(x for x in source.keypoints if x is not None))
    frames = [(*fixed, *kp) for kp in zip(*(x.split(1) for x in moved if x is not None), strict=True)]
    samples: dict[str, Any] = {"detector": images, "source_encoder": sources, "driver": frames}
    graphs, least = read_facts(folder)["graphs"], LEAST_PSNR[exported.format]
    with tempfile.TemporaryDirectory() as plain:
        shutil.copytree(folder, plain, dirs_exist_ok=True)
        for networks in CHOICES[exported.format]:
            for name, calibration in samples.items():
                file, inputs = graphs[name]["file"], graphs[name]["inputs"]
                quantize(Path(plain, file), folder / file, inputs, calibration, networks)
            after, *_ = follow(ExportedDaGAN(folder), source_image, held_out)
            psnr = -10 * (before - after).square().mean().log10().item()
            if psnr >= least:
                return psnr
    raise ValueError(f"int8: {psnr:.1f} dB of float32, expected at least {least:.0f} dB; export in float32")


def quantize(
    path: Path, output: Path, inputs: Sequence[str], calibration: Sequence[Sequence[Tensor]], networks: Sequence[str]
) -> None:
    """Quantize the convolutions of a graph to int8 (Q/DQ form): one scale per output channel, one per activation.

    Args:
        path: of the graph in float32.
        output: path of the result.
        inputs: names of its inputs.
        calibration: sample inputs, in that order, from which the ranges of activations are measured.
        networks: whose convolutions are quantized but for the last of each, by parts of the names of their weights.
    """

    def may_round(weight: str) -> bool:
        return any(name in weight for name in networks) and not any(name in weight for name in _LAST)

    if path.suffix == ".xml":
        return quantize_openvino(path, output, inputs, calibration, may_round)
    onnx, tools = require("onnx", "export"), require("onnxruntime.quantization", "export")
    shapes = require("onnxruntime.quantization.shape_inference", "export")
    feeds = iter([dict(zip(inputs, (x.numpy() for x in tensors), strict=True)) for tensors in calibration])

    class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    plain = output.with_suffix(".float")
    shapes.quant_pre_process(path, plain, skip_symbolic_shape=True)
    convolutions = [node for node in onnx.load(plain).graph.node if node.op_type == "Conv"]
    tools.quantize_static(
        plain,
        output,
        Reader(),
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Resize"],
        nodes_to_exclude=[node.name for node in convolutions if not may_round(node.input[1])],
    )
    plain.unlink()
