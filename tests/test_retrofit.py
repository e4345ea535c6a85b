"""Depth for trained networks: at first nothing changes, then everything new trains, and nothing else."""

import copy

import pytest
import standins
import torch
from retrofits import (
    DRIVING,
    FAMILIES,
    SOURCE,
    assert_differs,
    assert_equal,
    call,
    depth_net,
    each_family,
    networks,
    one_line,
    open_gates,
    retrofitted,
)
from torch import Tensor, nn

from depthaware.retrofit import fomm


@each_family
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_a_retrofit_changes_nothing_until_it_is_trained(name, mode, batch):
    nets = networks(name)
    for net in nets:
        net.train(mode == "train")
    originals = copy.deepcopy(nets)
    assert_equal(
        call(retrofitted(name, nets), SOURCE[:batch], DRIVING[:batch]), call(originals, SOURCE[:batch], DRIVING[:batch])
    )
    for net, original in zip(nets, originals, strict=True):  # batch-norm statistics, too
        assert_equal(dict(net.state_dict()), dict(original.state_dict()))


@each_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_nothing_changes_in_half_precision_either(name, dtype):
    nets = [net.to(dtype) for net in networks(name)]
    expected = call(nets, SOURCE.to(dtype), DRIVING.to(dtype))
    assert_equal(call(retrofitted(name, nets), SOURCE.to(dtype), DRIVING.to(dtype)), expected)


@each_family
@torch.no_grad()
def test_nothing_changes_under_autocast(name):
    nets = networks(name)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(call(retrofitted(name, nets)), call(copy.deepcopy(nets)))


@each_family
@torch.no_grad()
def test_the_given_networks_can_still_be_called_without_depth(name):
    nets = networks(name)
    before = call(nets)
    new, other = retrofitted(name, nets), retrofitted(name, nets)
    open_gates(new)
    assert_differs(call(new), before)
    assert_equal(call(nets), before)
    assert_equal(call(other), before)  # nor do two retrofits of one network meet


@each_family
@pytest.mark.parametrize("options", [{"fdn": False}, {"cam": False}, {"fdn": False, "cam": False}])
@torch.no_grad()
def test_each_half_can_be_left_out(name, options):
    nets = networks(name)
    before = call(nets)
    pair = FAMILIES[name].module.retrofit(*nets[:2], depth_net(), **options)
    assert [bool(part.trainable_parameters("new")) for part in pair] == [
        options.get(key, True) for key in ("fdn", "cam")
    ]
    assert_equal(call([*pair, *nets[2:]]), before)


@each_family
def test_every_new_parameter_gets_a_gradient_once_the_gates_are_open(name):
    nets = retrofitted(name)
    open_gates(nets, 0.1)
    (call(nets)["prediction"] - DRIVING).square().mean().backward()
    for net in nets[:2]:
        new = {id(parameter) for parameter in net.trainable_parameters("new")}
        for key, parameter in net.named_parameters():
            if id(parameter) in new:
                assert parameter.grad is not None and parameter.grad.any(), f"{key} got no gradient"


@each_family
def test_training_what_is_new_leaves_the_rest_as_it_is(name):
    nets = retrofitted(name)
    before = copy.deepcopy(nets)
    parameters = [parameter for net in nets[:2] for parameter in net.trainable_parameters("new")]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (call(nets)["prediction"] - DRIVING).square().mean().backward()
        optimizer.step()
    assert_differs(call(nets), call(before))
    for net, old in zip(nets[:2], before, strict=False):
        assert_equal(dict(net.model.state_dict()), dict(old.model.state_dict()))
        assert_equal(dict(net.depth_net.state_dict()), dict(old.depth_net.state_dict()))


@each_family
def test_the_groups_are_disjoint_and_whole(name):
    for net in retrofitted(name)[:2]:
        new, everything = ({id(p) for p in net.trainable_parameters(group)} for group in ("new", "all"))
        assert new and everything - new == {id(p) for p in net.model.parameters()}
        assert {id(p) for p in net.parameters() if p.requires_grad} == everything  # all but the depth network
    with pytest.raises(ValueError, match="expected 'new' or 'all', got 'old'"):
        net.trainable_parameters("old")


@each_family
def test_the_depth_network_stays_frozen(name):
    nets = retrofitted(name)
    for net in nets[:2]:
        net.train()
        assert net.model.training and not any(module.training for module in net.depth_net.modules())
        assert not any(parameter.requires_grad for parameter in net.depth_net.parameters())


@each_family
@torch.no_grad()
def test_remove_gives_the_original_back(name):
    nets = networks(name)
    before = call(nets)
    new = retrofitted(name, nets)
    open_gates(new)
    removed = [net.remove() for net in new[:2]]
    assert removed == nets[:2]
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in removed for m in net.modules())
    assert_equal(call([*removed, *nets[2:]]), before)


def test_scripts_find_the_attributes_and_methods_they_know():
    _, generator, _ = retrofitted("tpsmm")
    assert generator.num_channels == 3 and generator.get_encode(SOURCE).shape == (2, 4, 64, 64)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = generator.nonsense


def test_a_part_that_is_never_called_is_noticed():
    class Idle(standins.FOMMGenerator):
        def forward(self, source_image, kp_driving, kp_source):
            return {"prediction": source_image}

    nets = list(fomm.retrofit(networks("fomm")[0], Idle(), depth_net()))
    one_line("Idle: expected a call of bottleneck, found none", lambda: call(nets))


class Coarse(nn.Module):
    """A depth network of another kind: disparity at half or other size."""

    def __init__(self, channels: int = 1, side: int = 40) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(image, size=(self.side, self.side))).sigmoid()


@torch.no_grad()
def test_a_depth_network_of_another_resolution_is_resized():
    nets = networks("fomm")
    before = call(nets)
    for depth in (Coarse(), Coarse(side=130)):
        new = list(fomm.retrofit(*nets, depth))
        assert_equal(call(new), before)
        open_gates(new)
        assert_differs(call(new), before)


def test_a_depth_network_that_gives_no_disparity_is_refused():
    nets = list(fomm.retrofit(*networks("fomm"), Coarse(channels=2)))
    one_line(r"depth_net: expected a disparity \(2, 1, h, w\), got \(2, 2, 38, 38\)", lambda: call(nets))
