"""A retrofitted network in use: depth given from outside, no depth, weaker depth, its report and its attributes."""

import threading

import pytest
import standins
import torch
from retrofits import (
    DRIVING,
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
from torch import Tensor

from depthaware.retrofit import fomm


def opened(name: str = "fomm") -> list[torch.nn.Module]:
    nets = retrofitted(name)
    open_gates(nets)
    return nets


@torch.no_grad()
def test_given_depth_is_that_of_the_image_and_saves_its_computation():
    kp_detector, generator = nets = opened()
    expected = call(nets)
    kp = {"kp_source": kp_detector(SOURCE), "kp_driving": kp_detector(DRIVING)}
    depth = generator.encode_depth(SOURCE)
    again = generator.encode_depth(disparity=kp_detector.disparity(SOURCE))
    ran: list[object] = []
    generator.depth_net.register_forward_hook(lambda *_: ran.append(1))
    assert torch.equal(generator(SOURCE, **kp, depth=depth)["prediction"], expected["prediction"])
    assert torch.equal(generator(SOURCE, **kp, depth=again)["prediction"], expected["prediction"])
    with generator.with_depth(depth):
        assert torch.equal(generator(SOURCE, **kp)["prediction"], expected["prediction"])
    assert not ran
    assert torch.equal(generator(SOURCE, **kp)["prediction"], expected["prediction"]) and ran
    other = generator.encode_depth(DRIVING)
    assert not torch.equal(generator(SOURCE, **kp, depth=other)["prediction"], expected["prediction"])


@torch.no_grad()
def test_one_source_serves_a_batch_of_frames():
    _, generator = nets = opened()
    source = SOURCE[:1].expand(2, -1, -1, -1)
    expected = call(nets, source)
    with generator.with_depth(generator.encode_depth(SOURCE[:1])):
        torch.testing.assert_close(call(nets, source)["prediction"], expected["prediction"], atol=1e-6, rtol=1e-5)


@each_family
@torch.no_grad()
def test_disable_is_the_network_from_before(name):
    nets = opened(name)
    with_depth, bare = call(nets), call([net.model for net in nets[:2]] + nets[2:])
    with nets[0].disable(), nets[1].disable():
        assert_equal(call(nets), bare)
        found: list[dict[str, Tensor]] = []
        thread = threading.Thread(target=torch.no_grad()(lambda: found.append(call(nets))))
        thread.start(), thread.join()
    assert_equal(found[0], with_depth)  # other threads keep their depth
    with pytest.raises(RuntimeError), nets[1].disable():
        raise RuntimeError
    assert_equal(call(nets), with_depth)


@each_family
@torch.no_grad()
def test_strength_lies_between_without_and_with_depth(name):
    nets = opened(name)
    with_depth = call(nets)
    for net in nets[:2]:
        net.strength = 0.0
    assert_equal(call(nets), call([net.model for net in nets[:2]] + nets[2:]))
    for net in nets[:2]:
        net.strength = 0.5
    assert_differs(call(nets), with_depth)
    for net in nets[:2]:
        net.strength = 1.0
    assert_equal(call(nets), with_depth)


@torch.no_grad()
def test_half_the_strength_is_half_the_gate():
    nets = [networks("fomm")[0], retrofitted("fomm")[1]]
    open_gates([nets[1]])
    nets[1].strength = 0.5
    half = call(nets)
    nets[1].strength = 1.0
    nets[1].additions[0].gate.mul_(0.5)
    torch.testing.assert_close(call(nets)["prediction"], half["prediction"], atol=1e-5, rtol=1e-5)


class Decoder(standins.FOMMGenerator):
    """A generator whose feature comes from elsewhere: its first argument is no image."""

    def forward(self, feature: dict[str, Tensor]) -> Tensor:
        return self.bottleneck(feature["warped"])


@torch.no_grad()
def test_a_network_without_an_image_gets_its_depth_from_outside():
    bare = Decoder().eval()
    decoder = fomm.retrofit(networks("fomm")[0], bare, depth_net())[1]
    feature = {"warped": torch.rand(2, 16, 16, 16)}
    depth = decoder.encode_depth(SOURCE)
    assert torch.equal(decoder(feature, depth=depth), bare(feature))
    open_gates([decoder])
    assert not torch.equal(decoder(feature, depth=depth), bare(feature))
    one_line(r"feature: expected an image \(B, 3, H, W\) or depth=, found dict", lambda: decoder(feature))


def test_depth_of_another_form_is_refused():
    kp_detector, generator = retrofitted("fomm")
    one_line("depth: expected the result of encode_depth for 3 sites", lambda: kp_detector(SOURCE, depth=SOURCE[:, :1]))
    one_line("expected either an image or a disparity", generator.encode_depth)
    one_line("KPDetector|FOMMGenerator: has no depth", lambda: half("cam").encode_depth(SOURCE))


def half(name: str):
    return fomm.retrofit(*networks("fomm"), depth_net(), **{name: False})[1]


class Fork(standins.FOMMGenerator):
    """A fork of FOMM whose generator takes more than FOMM's, some of it named like the retrofit's own argument."""

    def forward(self, source_image, kp_driving, kp_source, optim_ret=False, depth=None):  # type: ignore[override]
        out = super().forward(source_image, kp_driving, kp_source)
        return out | {"optim_ret": optim_ret, "depth": depth}


@torch.no_grad()
def test_a_fork_keeps_its_own_arguments():
    nets = [standins.FOMMDetector().eval(), Fork().eval()]
    kp_detector, generator = fomm.retrofit(*nets, depth_net())
    kp = kp_detector(SOURCE)
    for out in (generator(SOURCE, kp, kp, True, 3), generator(SOURCE, kp, kp, optim_ret=True, depth=3)):
        assert out["optim_ret"] is True and out["depth"] == 3
    assert torch.equal(out["prediction"], nets[1](SOURCE, kp, kp)["prediction"])
    one_line("kp_source value$", lambda: generator(SOURCE, kp, {"value": kp["value"]}, True))


def test_attributes_are_set_where_they_are_found():
    _, generator = retrofitted("fomm")
    generator.num_channels = 4
    assert generator.model.num_channels == 4 and "num_channels" not in vars(generator)
    generator.model.strength = 7  # a name of the retrofit's own stays its own
    generator.strength = 0.5
    assert generator.model.strength == 7 and generator.strength == 0.5
    generator.mine = 1
    assert not hasattr(generator.model, "mine")
    generator.final = torch.nn.Identity()  # submodules, too
    assert isinstance(generator.model.final, torch.nn.Identity)


def test_a_removed_retrofit_says_so():
    kp_detector, generator = retrofitted("fomm")
    generator.remove()
    kp = kp_detector(SOURCE)
    one_line(r"FOMMGenerator: depth was removed; call the result of remove\(\)", lambda: generator(SOURCE, kp, kp))


def test_the_status_counts_and_shows_what_was_added(capsys):
    kp_detector, generator = retrofitted("fomm")
    status = generator.status()
    assert [site.path for site in status.sites] == ["bottleneck"]
    assert status.sites[0].addition == "CrossModalAttention" and status.sites[0].gate == 0
    assert status.new == sum(p.numel() for p in generator.trainable_parameters("new"))
    assert status.trainable == sum(p.numel() for p in generator.trainable_parameters("all"))
    assert status.total == sum(p.numel() for p in generator.parameters())
    open_gates([generator])
    assert generator.status().sites[0].gate == pytest.approx(abs(generator.additions[0].gate.item()))
    kp_detector.additions[1].conv.weight.data[0, 0, 0, 0] = -2
    assert [site.gate for site in kp_detector.status().sites] == [0, 2, 0]
    assert "kp: DepthChannel, gate 2" in str(kp_detector.status())
    generator.print_trainable_parameters()
    assert f"new params: {status.new:,} || trainable params: {status.trainable:,}" in capsys.readouterr().out
    assert "no depth" in str(half("cam").status())


def test_parameter_groups_give_what_is_new_its_own_rate():
    kp_detector, _ = retrofitted("fomm")
    new, old = kp_detector.parameter_groups(1e-5, new_lr=1e-3)
    assert new == {"params": kp_detector.trainable_parameters("new"), "lr": 1e-3}
    assert old == {"params": list(kp_detector.model.parameters()), "lr": 1e-5}
    kp_detector.model.kp.requires_grad_(False)
    assert len(kp_detector.parameter_groups()[1]["params"]) == len(old["params"]) - 2
    assert [group["lr"] for group in kp_detector.parameter_groups(0)] == [2e-4]
    assert [group["lr"] for group in half("cam").parameter_groups()] == [2e-5]
