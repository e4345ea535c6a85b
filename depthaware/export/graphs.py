"""The three graphs that a DaGAN is exported as, traced with a free number of driving frames."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..dagan import DaGAN, SourceEncoding
from ..inference.optimization import OptimizedDaGAN, fold_batch_norms
from ..keypoints import Keypoints

_Tuple = TypeVar("_Tuple", bound=tuple)


class SourceEncoder(nn.Module):
    """Source image (1, 3, H, W) -> tensors of its encoding, inputs of `Driver`."""

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, source_image: Tensor) -> tuple[Tensor, ...]:
        return tuple(named_tensors(beside_image(self.model.encode_source(source_image))).values())


class Detector(nn.Module):
    """Images (B, 3, H, W) -> value and jacobian of their key points."""

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, driving_image: Tensor) -> tuple[Tensor, ...]:
        return tuple(named_tensors(self.model.detect_keypoints(driving_image)).values())


class Driver(nn.Module):
    """Source image, its encoding (batch 1) and B sets of driving key points -> frames (B, 3, H, W).

    Args:
        model: the one whose `drive` it computes.
        source: any encoding, as the structure of the inputs.
    """

    def __init__(self, model: DaGAN, source: SourceEncoding) -> None:
        super().__init__()
        self.model = model
        self.structure = beside_image(source)

    def forward(self, source_image: Tensor, *others: Tensor) -> Tensor:
        rest = iter(others)
        source = _refill(self.structure, rest)._replace(image=source_image)
        return self.model.drive(source, Keypoints(*rest))


class Graph(NamedTuple):
    """A traced graph and the names of its inputs and outputs, in order."""

    program: torch.export.ExportedProgram
    inputs: list[str]
    outputs: list[str]


def trace(model: DaGAN, size: int) -> dict[str, Graph]:
    """Trace the graphs `source_encoder`, `detector` and `driver`.

    Args:
        model: on the CPU; it stays as it is.
        size: side of the images; the number of driving frames stays free.
    """
    if isinstance(model, OptimizedDaGAN):
        raise ValueError("model: is optimized for PyTorch, expected the one that it was made from")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norms(model)
    images = torch.rand(3, 3, size, size)  # tracing with a batch of 1 would specialize it
    source, keypoints = model.encode_source(images[:1]), model.detect_keypoints(images)
    encoding, kp_driving = named_tensors(beside_image(source)), named_tensors(keypoints, "kp_driving_")
    sources, driving = {"source_image": images[:1]}, {"driving_image": images}
    return {
        "source_encoder": _trace(SourceEncoder(model), sources, {}, list(encoding)),
        "detector": _trace(Detector(model), {}, driving, list(kp_driving)),
        "driver": _trace(Driver(model, source), sources | encoding, kp_driving, ["prediction"]),
    }


def _trace(module: nn.Module, fixed: dict[str, Tensor], free: dict[str, Tensor], outputs: list[str]) -> Graph:
    batch = {0: torch.export.Dim("batch")}
    shapes: Any = (*(None for _ in fixed), *(batch for _ in free))
    if isinstance(module, Driver):  # its *others count as one input
        shapes = (shapes[0], shapes[1:])
    program = torch.export.export(module.eval(), (*fixed.values(), *free.values()), dynamic_shapes=shapes, strict=False)
    return Graph(program, [*fixed, *free], outputs)


def beside_image(source: SourceEncoding) -> SourceEncoding:
    """Source encoding without the image, which is an input of its own, and the disparity, unused after encoding."""
    return source._replace(image=None, disparity=None)  # type: ignore[arg-type]


def named_tensors(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors in nested named tuples, by joined field names; None is left out."""
    found: dict[str, Tensor] = {}
    for name, item in zip(value._fields, value, strict=True):
        if isinstance(item, Tensor):
            found[prefix + name] = item
        elif item is not None:
            found |= named_tensors(item, f"{prefix}{name}_")
    return found


def _refill(structure: _Tuple, tensors: Iterator[Tensor]) -> _Tuple:
    def refill(item: Any) -> Any:
        if isinstance(item, Tensor):
            return next(tensors)
        return None if item is None else _refill(item, tensors)

    return type(structure)(*map(refill, structure))
