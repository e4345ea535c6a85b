"""Laws of cross-modal attention: the formula as printed, in float64, and what it may cost."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from conftest import TINY
from measure_attention import PlainAttention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depthaware import CrossModalAttention, DaGAN, attention

MEASURE = Path(__file__).parent.parent / "examples" / "benchmarks" / "measure_attention.py"


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def model() -> CrossModalAttention:
    torch.manual_seed(0)
    model = CrossModalAttention(16).double()
    model.gate.data.fill_(0.7)
    return model


def explicit(model: CrossModalAttention, depth_feature: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
    """Result and weights, position by position: S_ij = q_i · k_j, out_i = gate · sum_j softmax(S)_ij v_j."""
    query, key, value = (
        torch.relu(torch.einsum("oc,bcn->bon", layer.weight[..., 0, 0], x.flatten(2)) + layer.bias[:, None])
        for layer, x in ((model.query, depth_feature), (model.key, feature), (model.value, feature))
    )
    scores = torch.einsum("bdi,bdj->bij", query.expand(len(feature), -1, -1), key)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    attended = torch.einsum("bij,bcj->bci", weights, value).view_as(feature)
    return model.gate * attended + feature, weights


# 35 positions in chunks of 1, of 3 with 2 left over, of 7, and of all
@pytest.mark.parametrize("rows", [1, 3, 7, 35, 1000])
@pytest.mark.parametrize("depth_batch", [1, 2])
@pytest.mark.filterwarnings("error")
def test_result_and_gradients_are_the_formulas(model, monkeypatch, rows, depth_batch):
    monkeypatch.setattr(attention, "_SCORES", rows * 35)
    monkeypatch.setattr(attention, "_QUERIES", 1)
    monkeypatch.setattr(attention, "_BLOCK", rows)
    inputs = [uniform(depth_batch, 16, 5, 7).requires_grad_(), uniform(2, 16, 5, 7, seed=1).requires_grad_()]
    leaves = [*inputs, *model.parameters()]
    weight = uniform(2, 16, 5, 7, seed=2)
    expected, _ = explicit(model, *inputs)
    result = model(*inputs)
    torch.testing.assert_close(result, expected)
    gradients = torch.autograd.grad((result * weight).sum(), leaves)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * weight).sum(), leaves), strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs), expected)


@pytest.mark.parametrize("block", [3, 1000])
def test_first_and_second_derivatives_are_those_of_finite_differences(monkeypatch, block):
    """A gradient penalty, which differentiates a gradient, would otherwise lose its part without an error."""
    monkeypatch.setattr(attention, "_BLOCK", block)
    shapes = {"query": (2, 5, 3), "key": (2, 7, 3), "value": (2, 7, 4)}
    inputs = [uniform(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes.values())]
    assert torch.autograd.gradcheck(attention.attend, inputs)
    assert torch.autograd.gradgradcheck(attention.attend, inputs)
    (gradient,) = torch.autograd.grad(attention.attend(*inputs).sum(), inputs[:1], create_graph=True)
    assert all(part.any() for part in torch.autograd.grad(gradient.square().sum(), inputs))


@pytest.mark.parametrize("frozen", ["query", "key", "value"])
def test_gradients_are_right_when_a_part_is_frozen(model, frozen):
    model.get_submodule(frozen).requires_grad_(False)
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs = uniform(1, 16, 3, 4), uniform(1, 16, 3, 4, seed=1)
    ours, theirs = (
        torch.autograd.grad(result.square().sum(), leaves) for result in (model(*inputs), explicit(model, *inputs)[0])
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)])
def test_lower_precision_stays_close(model, dtype, tolerance):
    inputs = uniform(2, 16, 5, 7), uniform(2, 16, 5, 7, seed=1)
    expected, _ = explicit(model, *inputs)
    result = model.to(dtype)(*(x.to(dtype) for x in inputs))
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, atol=tolerance, rtol=tolerance)


def test_a_new_module_is_the_identity():
    feature = torch.rand(2, 16, 5, 7)
    assert torch.equal(CrossModalAttention(16)(torch.rand(2, 16, 5, 7), feature), feature)


@pytest.mark.parametrize("depth_batch", [1, 2])
def test_the_form_of_the_paper_is_eq_9_and_nothing_else(depth_batch):
    """softmax((W_q F_d)^T (W_k F_w)) (W_v F_w), with 1 x 1 convolutions and PyTorch's own attention."""
    torch.manual_seed(0)
    model = CrossModalAttention(16, form="paper").double()
    inputs = [uniform(depth_batch, 16, 5, 7).requires_grad_(), uniform(2, 16, 5, 7, seed=1).requires_grad_()]
    query, key, value = model.query(inputs[0].expand(2, -1, -1, -1)), model.key(inputs[1]), model.value(inputs[1])
    query, key, value = (x.flatten(2).mT for x in (query, key, value))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0).mT.reshape(2, 16, 5, 7)
    torch.testing.assert_close(model(*inputs), wanted)
    leaves = [*inputs, *model.query.parameters(), model.key.weight, *model.value.parameters()]
    weight = uniform(2, 16, 5, 7, seed=2)
    gradients = [torch.autograd.grad((result * weight).sum(), leaves) for result in (model(*inputs), wanted)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    weights = model.attention_map(*inputs, queries=torch.tensor([3]))[:, 0].flatten(1)
    torch.testing.assert_close(torch.einsum("bn,bnc->bc", weights, value), wanted.flatten(2)[..., 3])
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"query", "key", "value"}


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match=r"^form: expected 'released' or 'paper', got 'printed'$"):
        CrossModalAttention(16, form="printed")


def test_self_attention_has_queries_from_the_feature_itself(model):
    feature = uniform(2, 16, 5, 7)
    torch.testing.assert_close(model(feature, feature), explicit(model, feature, feature)[0])


def test_the_attention_map_is_the_formulas_weights(model):
    inputs = uniform(1, 16, 5, 7), uniform(2, 16, 5, 7, seed=1)
    queries = torch.tensor([34, 0, 12])
    weights = model.attention_map(*inputs, queries=queries)
    assert weights.shape == (2, 3, 5, 7)
    torch.testing.assert_close(weights.flatten(2).sum(-1), torch.ones(2, 3).double())
    torch.testing.assert_close(weights.flatten(2), explicit(model, *inputs)[1][:, queries])


def test_what_is_attended_to_has_no_order(model):
    """Permuting the positions of `feature` changes only the residual; permuting queries permutes the results."""
    depth_feature, feature = uniform(2, 16, 5, 7), uniform(2, 16, 5, 7, seed=1)
    order = torch.randperm(35, generator=torch.Generator().manual_seed(3))

    def permute(x: Tensor) -> Tensor:
        return x.flatten(2)[..., order].view_as(x)

    attended = model(depth_feature, feature) - feature
    torch.testing.assert_close(model(depth_feature, permute(feature)) - permute(feature), attended)
    torch.testing.assert_close(model(permute(depth_feature), feature) - feature, permute(attended))


@pytest.mark.parametrize("shape", [(2, 16, 5, 6), (2, 8, 5, 7), (3, 16, 5, 7)])
def test_features_that_do_not_fit_are_refused_by_name(model, shape):
    with pytest.raises(ValueError, match=r"depth_feature: expected the shape of feature \(2, 16, 5, 7\).*got"):
        model(torch.zeros(shape), torch.zeros(2, 16, 5, 7))


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of every storage that an operation allocates, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[id(storage)] = storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
                weakref.finalize(storage, self.alive.pop, id(storage))
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def live_tensors(model: CrossModalAttention, side: int, training: bool) -> LiveTensors:
    features = torch.rand(2, 1, 64, side, side).requires_grad_(training).unbind()
    with LiveTensors() as live, torch.set_grad_enabled(training):
        result = model(*features)
        if training:
            result.sum().backward()
    return live


@pytest.mark.parametrize("training", [False, True])
def test_the_map_of_all_pairs_is_never_alive(training):
    """At 64 x 64 positions it would hold 64 MiB."""
    live = live_tensors(CrossModalAttention(64), 64, training)
    assert live.largest <= 4 * attention._SCORES
    assert live.peak <= (24 if training else 16) * 2**20


def test_the_plain_formula_would_be_caught():
    live = live_tensors(PlainAttention(64), 32, training=True)
    assert live.largest == 4 * 1024**2 and live.peak >= 2 * live.largest


def test_peak_memory_at_512_px():
    """128 x 128 positions, resident memory over inputs and output; the plain formula needs over 1000 MB."""
    pytest.importorskip("tyro")
    command = [sys.executable, MEASURE, "--only", "ours", "--sides", "128", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(MEASURE.parents[2])}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    megabytes = float(output.split()[0])
    assert 16 < megabytes <= 64  # the values alone are 16 MiB


@pytest.mark.parametrize("attention", ["cross", "self"])
def test_behind_an_open_gate_everything_gets_a_gradient_from_the_first_step(attention):
    """And behind the default of 0 nothing does but the gate, which is what the retrofit relies on."""
    options = TINY | {"attention": attention}
    found = {}
    for gate in (0.0, 0.2):
        torch.manual_seed(0)
        model = DaGAN(**options, initial_gate=gate)
        model.depth_net.requires_grad_(False).eval()
        images = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        assert model.generator.attention.gate.item() == pytest.approx(gate)
        (model(*images).prediction - images[1]).square().mean().backward()
        parts = {"gate": model.generator.attention.gate}
        parts |= {name: getattr(model.generator.attention, name).weight for name in ("query", "key", "value")}
        if attention == "cross":
            parts |= {f"depth encoder {name}": p for name, p in model.generator.depth_encoder.named_parameters()}
            assert len(parts) > 8
        found[gate] = {name for name, parameter in parts.items() if parameter.grad is not None and parameter.grad.any()}
        assert gate == 0 or found[gate] == set(parts)
    assert found[0.0] == {"gate"}


def test_the_form_without_a_gate_refuses_one():
    with pytest.raises(ValueError, match=r"^initial_gate: expected 0 with form=.paper., which has no gate, got 0\.2$"):
        CrossModalAttention(8, form="paper", initial_gate=0.2)
