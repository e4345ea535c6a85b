"""Exported models with the interface that animation needs, run without network code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._optional import require
from ..keypoints import Keypoints, transfer_motion
from .facts import GRAPHS, read_facts
from .openvino import check_device, open_openvino

Runner = Callable[..., list[Tensor]]
Runtime = Literal["onnxruntime", "openvino"]
RUNS: dict[Runtime, tuple[str, ...]] = {
    "onnxruntime": ("onnx",),
    "openvino": ("openvino", "onnx"),
}  # formats, the best first


class ExportedSource(NamedTuple):
    """Source features cached by `ExportedDaGAN.encode_source`.

    Attributes:
        image: (1, 3, H, W).
        keypoints: of the image.
        encoding: outputs of the graph `source_encoder`.
    """

    image: Tensor
    keypoints: Keypoints
    encoding: tuple[Tensor, ...]


class ExportedDaGAN:
    """The graphs that `depthaware export` wrote, on the CPU; a drop-in replacement for `DaGAN` in `animate`.

    Args:
        folder: with export.json and the three graphs.
        allow_code: also open the format "torch". Its files (.pt2) can run any code when they are opened, with your
            rights: open those alone that you made yourself, or whose maker you would let use your computer.
        runtime: "onnxruntime" runs the format "onnx", "openvino" that and its own; None takes that of the format.
        device: of OpenVINO, which computes there: "CPU", "GPU", "NPU", or "AUTO" for its choice.
        dtype: with OpenVINO on the CPU, float32 or bfloat16: of what was not quantized. Unlike after `optimize`,
            coordinates are rounded, too.
        live: with OpenVINO, all threads work on one frame, for the least delay, not each on its own.

    Attributes:
        runtime: "onnxruntime", "openvino" or "torch".
        device: where tensors are, the CPU.

    Raises:
        ValueError: if there is no such export or device, the export is damaged, of another format than the runtime's,
            or in the format "torch" without `allow_code`.
        ImportError: if the runtime is missing.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        folder: str | Path,
        *,
        allow_code: bool = False,
        runtime: Runtime | None = None,
        device: str = "CPU",
        dtype: torch.dtype = torch.float32,
        live: bool = False,
    ) -> None:
        folder = Path(folder)
        facts = read_facts(folder)
        self.format: str = facts["format"]
        self.image_size: int = facts["size"]
        self.config: dict[str, Any] = facts["config"]
        self.detector_fingerprint: str | None = facts.get("detector")
        if runtime and self.format != "torch" and self.format not in RUNS[runtime]:
            expected = " or ".join(RUNS[runtime])
            raise ValueError(f"{folder}: expected an export in the format {expected} for {runtime}, got {self.format}")
        if self.format == "torch" and not allow_code:
            raise ValueError(
                f"{folder}: expected an export in the format onnx, got torch, whose files can run any code when they "
                "are opened; ExportedDaGAN(..., allow_code=True) opens those whose maker you trust"
            )
        self._points = sum(name.startswith("kp_") for name in facts["graphs"]["detector"]["outputs"])
        if not self._points:
            raise ValueError(f"{folder}: was exported by an earlier version of depthaware, expected a new export")
        self.runtime: str = runtime or {"onnx": "onnxruntime"}.get(self.format, self.format)
        where: dict[str, Any] = {}
        if self.runtime == "openvino":
            where = {"device": check_device(device), "dtype": dtype, "live": live}
        names = facts["graphs"]
        graphs = {name: open_graph(folder / names[name]["file"], names[name], self.runtime, **where) for name in GRAPHS}
        self._encode, self._detect, self._drive = (graphs[name] for name in GRAPHS)
        self._folder = folder

    def encode_source(self, source_image: Tensor) -> ExportedSource:
        """Encode a source (1, 3, H, W) in [0, 1], once for all its frames."""
        found = self._detect(source_image)
        encoding = self._encode(source_image, *found[self._points :])
        return ExportedSource(source_image, self._as_keypoints(found, 1), tuple(encoding))

    def encoder_inputs(self, source_image: Tensor) -> tuple[Tensor, ...]:
        """Inputs of the graph `source_encoder`: the image, and its disparity if the detector computes it."""
        return source_image, *self._detect(source_image)[self._points :]

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """Key points of images (B, 3, H, W) in [0, 1]."""
        return self._as_keypoints(self._detect(image), len(image))

    def _as_keypoints(self, found: list[Tensor], count: int) -> Keypoints:
        found = found[: self._points]
        ends = [(2,), (2, 2)][: len(found)]
        if not 1 <= len(found) <= 2 or any(
            tensor.ndim != 2 + len(end) or len(tensor) != count or tensor.shape[2:] != end
            for tensor, end in zip(found, ends, strict=True)
        ):
            shapes = [tuple(tensor.shape) for tensor in found]
            raise ValueError(
                f"{self._folder}: key points are {shapes}, expected ({count}, N, 2) and ({count}, N, 2, 2)"
            )
        return Keypoints(*found)

    def drive(self, source: ExportedSource, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Frames (B, 3, H, W) in [0, 1] of one source under B sets of driving key points."""
        if dtype != torch.float32:
            raise ValueError(f"dtype: an exported model has its own, expected float32, got {dtype}")
        keypoints = (x for x in (*source.keypoints, *kp_driving) if x is not None)
        frames = self._drive(source.image, *source.encoding, *keypoints)[0]
        expected = (len(kp_driving.value), *source.image.shape[1:])
        if frames.shape != expected:
            raise ValueError(f"{self._folder}: frames are {tuple(frames.shape)}, expected {expected}")
        return frames


def follow(model: Any, source_image: Tensor, driving_images: Tensor) -> list[Tensor]:
    """Frames by relative motion from the first driving image, as in `animate`, followed by all key points."""
    source, keypoints = model.encode_source(source_image), model.detect_keypoints(driving_images)
    frames = model.drive(source, relative(source.keypoints, keypoints))
    return [frames, *(x for x in (*source.keypoints, *keypoints) if x is not None)]


def relative(kp_source: Keypoints, kp_driving: Keypoints) -> Keypoints:
    """Motion from the first of the driving frames."""
    value, jacobian = kp_driving
    return transfer_motion(kp_source, kp_driving, Keypoints(value[:1], None if jacobian is None else jacobian[:1]))


def open_graph(path: Path, names: dict[str, Any], runtime: str, **where: Any) -> Runner:
    """Load a graph as a function from its inputs, in the order of their names, to its outputs.

    Args:
        path: of the file; a .pt2 can run any code.
        names: lists of the names of its "inputs" and "outputs".
        runtime: that of `ExportedDaGAN`.
        where: options of `open_openvino`.
    """
    if not path.is_file():
        raise ValueError(f"{path}: cannot be loaded, there is no such file")
    try:
        if runtime == "openvino":
            run = open_openvino(path, names, **where)
        else:
            run = _open_onnx(path, names) if runtime == "onnxruntime" else _open_torch(path)
    except (ValueError, ImportError):
        raise
    except Exception as error:  # the two libraries raise kinds of their own
        raise ValueError(f"{path}: cannot be loaded ({_line(error)})") from error

    def checked(*tensors: Tensor) -> list[Tensor]:
        if len(tensors) != len(names["inputs"]):
            raise ValueError(f"{path}: takes {len(names['inputs'])} inputs by export.json, got {len(tensors)}")
        try:
            found = run(*tensors)
        except Exception as error:  # likewise
            raise ValueError(f"{path}: cannot be run ({_line(error)})") from error
        if len(found) != len(names["outputs"]) or any(tensor.dtype != torch.float32 for tensor in found):
            raise ValueError(f"{path}: expected {len(names['outputs'])} outputs in float32, found others")
        return found

    return checked


def _line(error: Exception) -> str:
    return (str(error).splitlines() or ["damaged"])[0]


def _open_onnx(path: Path, names: dict[str, Any]) -> Runner:
    onnxruntime = require("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave cores to reading and writing video
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = names["inputs"], names["outputs"]
    for expected, nodes in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
        if (found := {node.name for node in nodes}) != set(expected):
            raise ValueError(f"{path}: expected {', '.join(expected)} as in export.json, found {', '.join(found)}")

    def run(*tensors: Tensor) -> list[Tensor]:
        feed = {name: tensor.contiguous().numpy() for name, tensor in zip(inputs, tensors, strict=True)}
        return [torch.from_numpy(array) for array in session.run(outputs, feed)]

    return run


def _open_torch(path: Path) -> Runner:
    module = torch.export.load(path).module()

    def run(*tensors: Tensor) -> list[Tensor]:
        out = module(*tensors)
        return [out] if isinstance(out, Tensor) else list(out)

    return run
