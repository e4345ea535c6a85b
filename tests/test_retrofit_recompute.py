"""Sites that run again: in one call, or in the backward pass under gradient checkpointing. Gradients stay the same."""

import gc

import pytest
import standins
import torch
from retrofits import DRIVING, SOURCE, assert_equal, call, depth_net, each_family, networks, open_gates, retrofitted
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from depthaware.retrofit import calls, fomm

KINDS = pytest.mark.parametrize("reentrant", [True, False])


class Checkpointed(nn.Module):
    """A part of a network, recomputed in the backward pass; its submodules keep their names one level deeper."""

    def __init__(self, part: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.part, self.reentrant = part, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=self.reentrant)


def checkpoint_sites(name: str, nets: list[nn.Module], reentrant: bool) -> None:
    """Checkpointing as a fork adds it: in the forward of the detector's and generator's own parts."""
    parts = {"fomm": ["kp"], "tpsmm": []}[name]
    for part in parts:
        setattr(nets[0], part, Checkpointed(getattr(nets[0], part), reentrant))
    if name == "fomm":
        nets[1].bottleneck = Checkpointed(nets[1].bottleneck, reentrant)
    else:
        nets[1].resblock = nn.ModuleList(Checkpointed(block, reentrant) for block in nets[1].resblock)


def gradients(nets: list[nn.Module]) -> tuple[dict[str, Tensor], list[Tensor]]:
    out = call(nets)
    (out["prediction"] - DRIVING).square().mean().backward()
    grads = [p.grad for net in nets[:2] for p in net.trainable_parameters("all") if p.grad is not None]
    return {key: value.detach() for key, value in out.items() if isinstance(value, Tensor)}, grads


@each_family
@KINDS
def test_gradient_checkpointing_changes_no_gradient(name, reentrant):
    nets = retrofitted(name)
    open_gates(nets, 0.1)
    expected, grads = gradients(nets)
    for net in nets:
        net.zero_grad()
    checkpoint_sites(name, [net.model for net in nets[:2]], reentrant)  # hooks stay where they are
    found, again = gradients(nets)
    assert_equal(found, expected)
    torch.testing.assert_close(again, grads, atol=1e-7, rtol=1e-4)
    assert len(again) == sum(len(net.trainable_parameters("all")) for net in nets[:2])


@KINDS
def test_calls_before_one_backward_keep_their_own_depth(reentrant):
    """Two generator calls in one loss, with different sources, recomputed after both."""
    nets = retrofitted("fomm")
    open_gates(nets, 0.1)

    def run() -> list[Tensor]:
        losses = [call(nets, *batch)["prediction"].square().mean() for batch in ((SOURCE, DRIVING), (DRIVING, SOURCE))]
        torch.stack(losses).sum().backward()
        grads = [p.grad.clone() for net in nets for p in net.trainable_parameters("all")]
        for net in nets:
            net.zero_grad()
        return grads

    expected = run()
    checkpoint_sites("fomm", [net.model for net in nets], reentrant)
    torch.testing.assert_close(run(), expected, atol=1e-7, rtol=1e-4)


def test_checkpointing_around_a_whole_call():
    nets = retrofitted("fomm")
    open_gates(nets, 0.1)
    _, expected = gradients(nets)
    for net in nets:
        net.zero_grad()
    kp_source, kp_driving = nets[0](SOURCE), nets[0](DRIVING)
    out = checkpoint(nets[1], SOURCE, kp_driving=kp_driving, kp_source=kp_source, use_reentrant=False)
    (out["prediction"] - DRIVING).square().mean().backward()
    found = [p.grad for net in nets for p in net.trainable_parameters("all")]
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)


class Twice(standins.FOMMGenerator):
    """Calls its bottleneck two times in one forward, as some networks of the family do."""

    def __init__(self) -> None:
        super().__init__()
        self.up_blocks.insert(0, nn.Identity())
        self.up_blocks[0].forward = lambda x: self.bottleneck(x)


@torch.no_grad()
def test_a_site_that_runs_twice_gets_its_depth_twice():
    torch.manual_seed(0)
    nets = [standins.FOMMDetector().eval(), Twice().eval()]
    new = list(fomm.retrofit(*nets, depth_net()))
    open_gates(new)
    kp = new[0](SOURCE)
    inputs: list[tuple[Tensor, Tensor]] = []
    new[1].additions[0].register_forward_pre_hook(lambda _, args: inputs.append(args))
    new[1](SOURCE, kp, kp)
    assert len(inputs) == 2 and torch.equal(inputs[0][0], inputs[1][0])
    assert not torch.equal(inputs[0][1], inputs[1][1])


@KINDS
def test_equal_inputs_with_different_depth_are_refused(reentrant):
    """With and without depth in one loss: the recomputation cannot know which of both it belongs to."""
    kp_detector = retrofitted("fomm")[0]
    open_gates([kp_detector])
    down = kp_detector.model.predictor.down_blocks[0]
    down.conv = Checkpointed(down.conv, reentrant)
    image = SOURCE.clone().requires_grad_()
    with_depth = kp_detector(image)["value"].sum()
    with kp_detector.disable():
        without = kp_detector(image)["value"].sum()
    with pytest.raises(ValueError, match="equal input but different depth; call backward after each"):
        (with_depth - 2 * without).backward()


@torch.enable_grad()
def test_nothing_is_kept_once_the_outputs_are_gone():
    nets = retrofitted("fomm")
    out = call(nets)
    assert len(calls._kept) >= 3
    del out
    gc.collect()
    assert not [kept for kept in calls._kept if kept.owner in {net._owner for net in nets}]
    with torch.no_grad():
        kept = call(nets)
    assert kept and not [one for one in calls._kept if one.owner in {net._owner for net in nets}]


def test_bare_calls_in_a_backward_pass_stay_bare():
    nets = networks("fomm")
    new = list(fomm.retrofit(*nets, depth_net()))
    open_gates(new)
    x = torch.rand(1, 16, 16, 16, requires_grad=True)
    checkpoint_sites("fomm", nets, True)
    expected = nets[1].bottleneck.part(x).detach()
    seen: list[Tensor] = []
    nets[1].bottleneck.part.register_forward_hook(lambda _, args, out: seen.append(out.detach()))
    nets[1].bottleneck(x).sum().backward()
    assert len(seen) == 2 and all(torch.equal(y, expected) for y in seen)
