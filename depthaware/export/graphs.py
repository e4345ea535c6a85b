"""The three graphs that a DaGAN is exported as, traced with a free number of driving frames."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..attention import CrossModalAttention
from ..dagan import DaGAN, SourceEncoding
from ..generator import SourceFeatures
from ..inference.optimization import OptimizedDaGAN, fold_batch_norms, use_phases
from ..keypoints import Keypoints


class Detector(nn.Module):
    """Images (B, 3, H, W) -> value and jacobian of their key points, and the disparity if `SourceEncoder` takes it."""

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        self.model = _without(model, "dense_motion", "generator", *["depth_net"] * (model.kp_detector.input == "rgb"))
        self.outputs = ["kp_value", *["kp_jacobian"] * has_jacobian(model), *["disparity"] * shares_disparity(model)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if "disparity" not in self.outputs:
            return _tensors(self.model.detect_keypoints(image))
        keypoints, disparity = self.model.detect(image)
        assert disparity is not None
        return *_tensors(keypoints), disparity


class SourceEncoder(nn.Module):
    """Source image (1, 3, H, W), and its disparity if the detector computes it -> what else `Driver` takes of it."""

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        unused = [
            "kp_detector",
            "dense_motion.hourglass",
            "generator.decoder",
            *["depth_net"] * shares_disparity(model),
        ]
        self.model = _without(model, *unused)
        self.outputs = ["small", "appearance", *["queries"] * (model.generator.depth_encoder is not None)]

    def forward(self, source_image: Tensor, source_disparity: Tensor | None = None) -> tuple[Tensor, ...]:
        model = self.model
        if model.generator.depth_encoder is not None and source_disparity is None:
            assert model.depth_net is not None
            (source_disparity,) = model.depth_net(source_image, num_scales=1)
        small = model.dense_motion.down(source_image)
        appearance, depth = model.generator.encode(source_image, source_disparity)
        if depth is None:
            return small, appearance
        assert isinstance(model.generator.attention, CrossModalAttention)
        return small, appearance, model.generator.attention.queries(depth)


class Driver(nn.Module):
    """Source image, outputs of `SourceEncoder`, key points of the source and of B frames -> frames (B, 3, H, W)."""

    outputs = ("prediction",)

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        encoders = ("generator.appearance_encoder", "generator.depth_encoder")
        self.model = _without(model, "depth_net", "kp_detector", *encoders)
        self.has_jacobian, self.has_queries = has_jacobian(model), model.generator.depth_encoder is not None
        if self.has_queries:
            self.model.generator.attention = _FromQueries(self.model.generator.attention)  # type: ignore[assignment, arg-type]

    def forward(self, source_image: Tensor, small: Tensor, appearance: Tensor, *others: Tensor) -> Tensor:
        queries = others[0] if self.has_queries else None
        keypoints = others[self.has_queries :]
        count = 1 + self.has_jacobian
        kp_source, kp_driving = Keypoints(*keypoints[:count]), Keypoints(*keypoints[count:])
        features = SourceFeatures(appearance, queries)
        return self.model.drive(SourceEncoding(source_image, small, None, kp_source, features), kp_driving)


class _FromQueries(nn.Module):
    """The attention of a generator whose "depth feature" is the queries already."""

    def __init__(self, attention: CrossModalAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, queries: Tensor, feature: Tensor) -> Tensor:
        return self.attention.attend_from(queries, feature)


class Graph(NamedTuple):
    """A traced graph and the names of its inputs and outputs, in order."""

    program: torch.export.ExportedProgram
    inputs: list[str]
    outputs: list[str]


def trace(model: DaGAN, size: int) -> dict[str, Graph]:
    """Trace the graphs `detector`, `source_encoder` and `driver`.

    Args:
        model: on the CPU; it stays as it is.
        size: side of the images; the number of driving frames stays free.
    """
    if isinstance(model, OptimizedDaGAN):
        raise ValueError("model: is optimized for PyTorch, expected the one that it was made from")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norms(model)
    use_phases(model)
    images = torch.rand(3, 3, size, size)  # tracing with a batch of 1 would specialize it
    detector, encoder, driver = Detector(model), SourceEncoder(model), Driver(model)
    found = dict(zip(detector.outputs, detector(images), strict=True))
    source = {"source_image": images[:1]}
    shared = {f"source_{name}": x[:1] for name, x in found.items()}
    disparity = {name: shared.pop(name) for name in list(shared) if name == "source_disparity"}
    encoding = dict(zip(encoder.outputs, encoder(**source, **disparity), strict=True))
    driving = {f"driving_{name}": x for name, x in found.items() if name != "disparity"}
    return {
        "detector": _trace(detector, {}, {"image": images}),
        "source_encoder": _trace(encoder, source | disparity, {}),
        "driver": _trace(driver, source | encoding | shared, driving),
    }


def _trace(module: Detector | SourceEncoder | Driver, fixed: dict[str, Tensor], free: dict[str, Tensor]) -> Graph:
    batch = {0: torch.export.Dim("batch")}
    shapes: Any = (*(None for _ in fixed), *(batch for _ in free))
    if isinstance(module, Driver):  # its *others count as one input
        shapes = (*shapes[:3], shapes[3:])
    program = torch.export.export(module.eval(), (*fixed.values(), *free.values()), dynamic_shapes=shapes, strict=False)
    return Graph(program, [*fixed, *free], list(module.outputs))


def _without(model: DaGAN, *unused: str) -> DaGAN:
    part = copy.deepcopy(model)
    for name in unused:
        owner, _, child = name.rpartition(".")
        setattr(part.get_submodule(owner), child, None)
    return part


def has_jacobian(model: DaGAN) -> bool:
    """Whether key points have local frames."""
    return model.kp_detector.jacobian is not None


def shares_disparity(model: DaGAN) -> bool:
    """Whether detector and source encoder need the disparity; then the depth network is part of the detector alone."""
    return model.kp_detector.input != "rgb" and model.generator.depth_encoder is not None


def _tensors(keypoints: Keypoints) -> tuple[Tensor, ...]:
    return tuple(x for x in keypoints if x is not None)
