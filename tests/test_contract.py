"""One contract for every public module: gradients, batch independence, precision, export, state dict, documentation."""

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import depthaware
from depthaware import (
    CrossModalAttention,
    DaGAN,
    DenseMotion,
    DenseMotionNetwork,
    DepthAwareGenerator,
    FeatureEncoder,
    Keypoints,
    MultiScaleDiscriminator,
    PoseNet,
    RGBDKeypointDetector,
    SelfSupDepthNet,
    extractors,
    losses,
    metrics,
)
from depthaware.blocks import AntiAliasDownsample, Hourglass
from depthaware.geometry import coordinate_grid

HOURGLASS = dict(block_expansion=4, max_features=16, num_blocks=2)
DEPTH = dict(encoder="test_resnet", decoder_channels=[4, 4, 8, 8, 16])
GENERATOR = dict(block_expansion=4, max_features=16, num_bottleneck_blocks=1)


class Case(NamedTuple):
    """Builder of a module, and inputs for it."""

    build: Callable[..., nn.Module]
    options: dict[str, Any]
    inputs: Callable[[], tuple[Any, ...]]
    without_gradient: tuple[str, ...] = ()  # endings of names of parameters that can have none, each with a reason


def images(count: int = 1, channels: int = 3) -> tuple[Tensor, ...]:
    return tuple(torch.rand(count, 3, channels, 64, 64).unbind())


def keypoints() -> Keypoints:
    return Keypoints(torch.rand(3, 3, 2) - 0.5, torch.eye(2) + 0.2 * torch.rand(3, 3, 2, 2))


def motion() -> DenseMotion:
    deformation = coordinate_grid(16, 16).expand(3, -1, -1, -1) + 0.1 * torch.rand(3, 16, 16, 2)
    rest = torch.rand(3, 4, 16, 16), deformation[:, None], torch.rand(3, 4, 3, 16, 16)
    return DenseMotion(deformation, 0.1 + 0.8 * torch.rand(3, 1, 16, 16), *rest)


def detector(kind: str) -> Case:
    options = dict(num_keypoints=3, input=kind, **HOURGLASS)
    return Case(RGBDKeypointDetector, options, lambda: (*images(), *images(channels=1)))


def generator(**options: Any) -> Case:
    return Case(DepthAwareGenerator, GENERATOR | options, lambda: (*images(), *images(channels=1), motion()))


CASES = {
    "AntiAliasDownsample": Case(AntiAliasDownsample, dict(channels=3), images),
    "Hourglass": Case(Hourglass, dict(in_channels=3, **HOURGLASS), images),
    "SelfSupDepthNet": Case(SelfSupDepthNet, DEPTH, images),
    "PoseNet": Case(PoseNet, dict(encoder="test_resnet"), lambda: images(2)),
    "PoseNet released": Case(PoseNet, dict(encoder="test_resnet", intrinsics="released"), lambda: images(2)),
    "RGBDKeypointDetector rgbd": detector("rgbd"),
    "RGBDKeypointDetector rgb": detector("rgb"),
    "RGBDKeypointDetector depth": detector("depth"),
    "DenseMotionNetwork": Case(
        DenseMotionNetwork, dict(num_keypoints=3, **HOURGLASS), lambda: (*images(), keypoints(), keypoints())
    ),
    "CrossModalAttention": Case(
        CrossModalAttention, dict(channels=16), lambda: tuple(torch.rand(2, 3, 16, 8, 8).unbind())
    ),
    "FeatureEncoder": Case(FeatureEncoder, dict(in_channels=1, block_expansion=4), lambda: images(channels=1)),
    "CrossModalAttention paper": Case(
        CrossModalAttention,
        dict(channels=16, form="paper"),
        lambda: tuple(torch.rand(2, 3, 16, 8, 8).unbind()),
        ("key.bias",),  # shifts all scores of a query alike, which the softmax does not see
    ),
    "DepthAwareGenerator": generator(),
    "DepthAwareGenerator spade": generator(decoder="spade"),
    "DepthAwareGenerator self": generator(attention="self"),
    "DepthAwareGenerator none": generator(attention="none"),
    "DepthAwareGenerator blend": generator(blend=True),
    "MultiScaleDiscriminator": Case(
        MultiScaleDiscriminator,
        dict(num_keypoints=3, block_expansion=4, max_features=16),
        lambda: (*images(), keypoints()),
        # The instance norm behind it takes away any constant.
        tuple(f"down_blocks.{i}.conv.bias" for i in (1, 2, 3)),
    ),
    "DaGAN": Case(DaGAN, TINY, lambda: images(2)),
    "DaGAN spade": Case(DaGAN, TINY | dict(decoder="spade"), lambda: images(2)),
    "DaGAN as printed": Case(
        DaGAN, TINY | dict(attention_form="paper", estimate_jacobian=False), lambda: images(2), ("key.bias",)
    ),
    "DaGAN FOMM": Case(DaGAN, TINY | dict(keypoint_input="rgb", attention="none"), lambda: images(2)),
}
COARSE = tuple(f"depth_net.heads.{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias"))  # of stage 1 alone
CASES |= {
    name: case._replace(without_gradient=COARSE + case.without_gradient)
    for name, case in CASES.items()
    if name.startswith("DaGAN")
}
every_module = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def build(case: Case) -> nn.Module:
    torch.manual_seed(0)
    module = case.build(**case.options)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and not parameter.any() and not name.endswith("bias"):  # a gate that is shut at first
            parameter.data.fill_(0.5)
    return module


def inputs(case: Case) -> tuple[Any, ...]:
    torch.manual_seed(1)
    return case.inputs()


def tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def assert_same(ours: Any, theirs: Any, **tolerance: float) -> None:
    pairs = list(zip(tensors(ours), tensors(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        torch.testing.assert_close(a, b, check_dtype=False, **tolerance)


@every_module
def test_every_parameter_receives_a_gradient(case):
    module = build(case).train()
    outputs = tensors(module(*inputs(case)))
    torch.manual_seed(2)
    loss = sum((out * torch.rand_like(out)).sum() for out in outputs if out.requires_grad)
    parameters = dict(module.named_parameters())
    if not parameters:
        return
    loss.backward()
    unused = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
    assert [name for name in unused if not name.endswith(case.without_gradient or ("\0",))] == []
    assert all(p.grad.isfinite().all() for p in parameters.values() if p.grad is not None)


@every_module
@torch.no_grad()
def test_no_sample_sees_the_others(case):
    module, args = build(case).eval(), inputs(case)
    batch = tensors(module(*args))
    for i in range(3):
        alone = module(*tree_map(lambda x, i=i: x[i : i + 1], args))
        assert_same([out[i : i + 1] for out in batch], alone, atol=2e-5, rtol=1e-4)


@every_module
@torch.no_grad()
def test_other_precisions_are_near_float32(case):
    module, args = build(case).eval(), inputs(case)
    wanted = module(*args)
    assert_same(copy.deepcopy(module).double()(*tree_map(Tensor.double, args)), wanted, atol=1e-3, rtol=1e-3)
    for dtype in (torch.bfloat16, torch.float16):
        found = tensors(copy.deepcopy(module).to(dtype)(*tree_map(lambda x, d=dtype: x.to(d), args)))
        for a, b in zip(found, tensors(wanted), strict=True):
            assert a.dtype == dtype and a.isfinite().all()
            error = (a.float() - b).abs().mean() / b.abs().mean()
            assert error < 0.1, f"{dtype}: off by {error:.0%}"


@every_module
@torch.no_grad()
def test_exports(case):
    module, args = build(case).eval(), inputs(case)
    program = torch.export.export(module, args)
    assert_same(program.module()(*args), module(*args), atol=1e-5, rtol=1e-4)


@every_module
@torch.no_grad()
def test_the_state_dict_and_the_options_are_all_there_is(case):
    module, args = build(case).eval(), inputs(case)
    torch.manual_seed(3)
    again = case.build(**json.loads(json.dumps(case.options)))
    again.load_state_dict(module.state_dict())
    assert_same(again.eval()(*args), module(*args), atol=0, rtol=0)
    assert_same(copy.deepcopy(module)(*args), module(*args), atol=0, rtol=0)


@every_module
def test_it_pickles_or_says_why_not(case):
    module, args = build(case).eval(), inputs(case)
    if case.options.get("decoder") == "spade":  # PyTorch does not pickle spectrally normalized layers
        with pytest.raises(RuntimeError, match="only supported through state_dict"):
            pickle.dumps(module)
    else:
        assert_same(pickle.loads(pickle.dumps(module))(*args), module(*args), atol=0, rtol=0)


@every_module
@torch.no_grad()
def test_evaluating_changes_nothing_and_training_the_running_statistics_alone(case):
    module, args = build(case).eval(), inputs(case)
    before = copy.deepcopy(module.state_dict())
    evaluated = module(*args)

    def changes() -> list[str]:
        return [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]

    assert changes() == []
    trained, changed = module.train()(*args), changes()
    statistics = ("running_mean", "running_var", "num_batches_tracked", "._u", "._v")  # of batch and spectral norms
    assert [key for key in changed if not key.endswith(statistics)] == []
    assert bool(changed) == any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    if not changed:
        assert_same(trained, evaluated, atol=0, rtol=0)


def public() -> list[Any]:
    packages = (depthaware, losses, metrics, extractors)
    return [thing for package in packages for name in package.__all__ if callable(thing := getattr(package, name))]


@pytest.mark.parametrize("thing", public(), ids=lambda thing: thing.__name__)
def test_everything_public_is_documented_and_takes_options_by_name(thing):
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and issubclass(thing, nn.Module):
        kinds = [p.kind for p in list(inspect.signature(thing).parameters.values())[1:]]
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds)
        assert inspect.signature(thing.forward).return_annotation is not inspect.Signature.empty


MODULES = {thing for thing in public() if inspect.isclass(thing) and issubclass(thing, nn.Module)} - {
    getattr(losses, name) for name in losses.__all__
}


@pytest.mark.parametrize("module", sorted(MODULES, key=lambda module: module.__name__))
def test_every_public_module_has_a_case_and_defaults_that_survive_json(module):
    assert module in {case.build for case in CASES.values()}
    defaults = {name: parameter.default for name, parameter in inspect.signature(module).parameters.items()}
    with torch.device("meta"):
        plain, again = module(), module(**json.loads(json.dumps(defaults)))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
