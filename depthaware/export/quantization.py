"""Int8 quantization for the CPU: most convolutions of an exported model, calibrated on real frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .._optional import require
from .runtimes import ExportedDaGAN, follow, read_facts, relative

LEAST_PSNR = 35.0
# By weight name. Key points and attention stay in float32, since their errors move or mix whole regions, and so do the
# last convolutions of each network, since their quantization steps are visible.
_NETWORKS = (
    "depth_net.",
    "dense_motion.hourglass.",
    "generator.appearance_encoder.",
    "generator.depth_encoder.",
    "generator.decoder.",
)
_LAST = (".head.", ".end.", ".final.", ".conv_img.")


def quantize_export(folder: Path, source_image: Tensor, driving_images: Tensor) -> float:
    """Quantize the graphs of an export in place.

    Args:
        folder: with an export in the format "onnx", in float32.
        source_image: (1, 3, H, H) in [0, 1].
        driving_images: (F, 3, H, H) in [0, 1], frames of a real video in their order; the first half is for
            calibration, the second for the PSNR.

    Returns:
        PSNR of the frames against those in float32, in dB.

    Raises:
        ValueError: if that is below 35 dB.
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
    for name, calibration in (("detector", images), ("source_encoder", sources), ("driver", frames)):
        graph = read_facts(folder)["graphs"][name]
        quantize(folder / graph["file"], graph["inputs"], calibration)
    after, *_ = follow(ExportedDaGAN(folder), source_image, held_out)
    psnr = -10 * (before - after).square().mean().log10().item()
    if not psnr >= LEAST_PSNR:
        raise ValueError(f"int8: {psnr:.1f} dB of float32, expected at least {LEAST_PSNR:.0f} dB; export in float32")
    return psnr


def quantize(path: Path, inputs: Sequence[str], calibration: Sequence[Sequence[Tensor]]) -> None:
    """Quantize the convolutions of a graph to int8 (Q/DQ form): one scale per output channel, one per activation.

    Args:
        path: of the graph in float32.
        inputs: names of its inputs.
        calibration: sample inputs, in that order, from which the ranges of activations are measured.
    """
    onnx, tools = require("onnx", "export"), require("onnxruntime.quantization", "export")
    shapes = require("onnxruntime.quantization.shape_inference", "export")
    feeds = iter([dict(zip(inputs, (x.numpy() for x in tensors), strict=True)) for tensors in calibration])

    class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    plain = path.with_suffix(".float")
    shapes.quant_pre_process(path, plain, skip_symbolic_shape=True)
    convolutions = [node for node in onnx.load(plain).graph.node if node.op_type == "Conv"]
    tools.quantize_static(
        plain,
        path,
        Reader(),
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Resize"],
        nodes_to_exclude=[node.name for node in convolutions if not _may_round(node.input[1])],
    )
    plain.unlink()


def _may_round(weight: str) -> bool:
    return any(name in weight for name in _NETWORKS) and not any(name in weight for name in _LAST)
