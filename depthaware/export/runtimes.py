"""Exported models with the interface that animation needs, run without network code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._optional import require
from ..keypoints import Keypoints, transfer_motion

FACTS = "export.json"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
Runner = Callable[..., list[Tensor]]


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

    Raises:
        ValueError: if there is no such export, or it is damaged.
        ImportError: if ONNX Runtime is missing.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        facts = read_facts(folder)
        self.format: str = facts["format"]
        self.image_size: int = facts["size"]
        self.config: dict[str, Any] = facts["config"]
        graphs = {name: open_graph(folder / graph["file"], graph) for name, graph in facts["graphs"].items()}
        self._encode, self._detect, self._drive = (graphs[name] for name in ("source_encoder", "detector", "driver"))
        self._points = sum(name.startswith("kp_") for name in facts["graphs"]["detector"]["outputs"])
        if not self._points:
            raise ValueError(f"{folder}: was exported by an earlier version of depthaware, expected a new export")

    def encode_source(self, source_image: Tensor) -> ExportedSource:
        """Encode a source (1, 3, H, W) in [0, 1], once for all its frames."""
        found = self._detect(source_image)
        encoding = self._encode(source_image, *found[self._points :])
        return ExportedSource(source_image, Keypoints(*found[: self._points]), tuple(encoding))

    def encoder_inputs(self, source_image: Tensor) -> tuple[Tensor, ...]:
        """What the graph `source_encoder` takes: the image, and its disparity if the detector computes it."""
        return source_image, *self._detect(source_image)[self._points :]

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """Key points of images (B, 3, H, W) in [0, 1]."""
        return Keypoints(*self._detect(image)[: self._points])

    def drive(self, source: ExportedSource, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Frames (B, 3, H, W) in [0, 1] of one source under B sets of driving key points."""
        if dtype != torch.float32:
            raise ValueError(f"dtype: an exported model has its own, expected float32, got {dtype}")
        keypoints = (x for x in (*source.keypoints, *kp_driving) if x is not None)
        return self._drive(source.image, *source.encoding, *keypoints)[0]


def follow(model: Any, source_image: Tensor, driving_images: Tensor) -> list[Tensor]:
    """Frames by relative motion from the first driving image, as in `animate`, followed by all key points."""
    source, keypoints = model.encode_source(source_image), model.detect_keypoints(driving_images)
    frames = model.drive(source, relative(source.keypoints, keypoints))
    return [frames, *(x for x in (*source.keypoints, *keypoints) if x is not None)]


def relative(kp_source: Keypoints, kp_driving: Keypoints) -> Keypoints:
    """Motion from the first of the driving frames."""
    value, jacobian = kp_driving
    return transfer_motion(kp_source, kp_driving, Keypoints(value[:1], None if jacobian is None else jacobian[:1]))


def read_facts(folder: Path) -> dict[str, Any]:
    """Read export.json."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder made by `depthaware export`, found no {FACTS}") from error
    except ValueError as error:
        raise ValueError(f"{folder / FACTS}: not JSON ({error})") from error
    missing = {"format", "size", "config", "graphs"} - set(facts)
    if missing:
        raise ValueError(
            f"{folder / FACTS}: expected the keys that `depthaware export` writes, found no {min(missing)}"
        )
    return facts


def open_graph(path: Path, names: dict[str, Any]) -> Runner:
    """Load a graph as a function from its inputs, in the order of their names, to its outputs."""
    try:
        return _open_onnx(path, names["inputs"]) if path.suffix == ".onnx" else _open_torch(path)
    except (ValueError, ImportError):
        raise
    except Exception as error:  # the two libraries raise kinds of their own
        raise ValueError(f"{path}: cannot be loaded ({(str(error).splitlines() or ['damaged'])[0]})") from error


def _open_onnx(path: Path, inputs: list[str]) -> Runner:
    onnxruntime = require("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave cores to reading and writing video
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(*tensors: Tensor) -> list[Tensor]:
        feed = {name: tensor.contiguous().numpy() for name, tensor in zip(inputs, tensors, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, feed)]

    return run


def _open_torch(path: Path) -> Runner:
    module = torch.export.load(path).module()

    def run(*tensors: Tensor) -> list[Tensor]:
        out = module(*tensors)
        return [out] if isinstance(out, Tensor) else list(out)

    return run
