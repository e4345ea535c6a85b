"""Retrofits on disk: what is saved is what is loaded, and what does not fit is refused."""

import os
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from retrofits import (
    DRIVING,
    FAMILIES,
    SOURCE,
    assert_equal,
    call,
    depth_net,
    each_family,
    networks,
    one_line,
    open_gates,
    retrofitted,
)
from safetensors import safe_open
from test_hub import client

from depthaware import SelfSupDepthNet
from depthaware.retrofit import fomm, tpsmm, upgrade_checkpoint

CLIENT = """
import torch
from retrofits import depth_net, networks, open_gates, retrofitted
from depthaware.retrofit import fomm
pair = fomm.retrofit(*networks("fomm"), depth_net())
open_gates(list(pair))
out["url"] = pair.push_to_hub("me/depth")
loaded = fomm.load_retrofit("me/depth", *networks("fomm"), depth_net(), revision="main")
out["equal"] = all(torch.equal(a, b) for a, b in zip(*({**p[1].state_dict()}.values() for p in (pair, loaded))))
out["refused"] = refusal(fomm.load_retrofit, "me/nothing", *networks("fomm"), depth_net())
"""


def test_a_pushed_retrofit_comes_back(tmp_path):
    with HubServer() as server:
        path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
        out = client(CLIENT, server.url, tmp_path, PYTHONPATH=path)
        assert out["url"].startswith(f"{server.url}/me/depth/commit/") and out["equal"]
        assert out["refused"] == "ValueError: Hub weights 'me/nothing': no such repository, or no access to it"
        assert b"retrofit.fomm.load_retrofit" in server.files("me/depth")["README.md"]


def test_the_pair_saves_itself_like_an_adapter(tmp_path):
    pair = fomm.retrofit(*networks("fomm"), depth_net())
    pair.save_pretrained(tmp_path / "it")
    loaded = fomm.load_retrofit(tmp_path / "it", *networks("fomm"), depth_net())
    assert_equal(call(list(loaded)), call(list(pair)))
    assert [group["lr"] for group in loaded.parameter_groups(1, 2)] == [2, 1, 2, 1]
    one_line(f"weights '{tmp_path}/no': expected a folder", lambda: load_str(f"{tmp_path}/no"))


def load_str(name: str) -> None:
    fomm.load_retrofit(name, *networks("fomm"), depth_net())


def test_halves_of_two_retrofits_are_not_saved(tmp_path):
    one, other = (fomm.retrofit(*networks("fomm"), depth_net(), **{key: False}) for key in ("cam", "fdn"))
    one_line("expected both networks from one retrofit", lambda: fomm.save_retrofit(tmp_path / "it", one[0], other[1]))
    one, other = (fomm.retrofit(*networks("fomm"), depth_net(width)) for width in (4, 8))
    one_line("two with different depth", lambda: fomm.save_retrofit(tmp_path / "it", one[0], other[1]))
    assert not (tmp_path / "it").exists()


@each_family
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_checkpoints_from_before_and_after_load_strictly(name, prefix):
    """Also inside of another module, as DataParallel is one."""
    nets, others = retrofitted(name), networks(name, seed=1)
    open_gates(nets)
    bare, whole = ([net.state_dict() for net in pair] for pair in (others[:2], nets[:2]))
    target = retrofitted(name, networks(name, seed=2))
    for net, state in zip(target, bare, strict=False):
        outer = torch.nn.ModuleDict({"module": net}) if prefix else net
        outer.load_state_dict({prefix + key: value for key, value in state.items()})
    assert_equal(call([*target[:2], *nets[2:]]), call([*others[:2], *nets[2:]]))
    for net, state in zip(target, whole, strict=False):
        outer = torch.nn.ModuleDict({"module": net}) if prefix else net
        outer.load_state_dict({prefix + key: value for key, value in state.items()})
    assert_equal(call([*target[:2], *nets[2:]]), call(nets))


def test_a_checkpoint_from_before_with_a_missing_or_unknown_tensor_is_refused():
    kp_detector, _ = retrofitted("fomm")
    state = networks("fomm")[0].state_dict()
    for broken, message in (
        ({key: value for key, value in state.items() if key != "kp.bias"}, r"Missing key.*\n?.*model\.kp\.bias"),
        (state | {"kp.other": torch.zeros(1)}, r"Unexpected key.*\n?.*model\.kp\.other"),
        ({}, "Missing key"),
    ):
        with pytest.raises(RuntimeError, match=message):
            kp_detector.load_state_dict(broken)


NAMES = ["kp_detector", "generator"]


def optimizers(pair):
    return [torch.optim.Adam(net.parameters(), lr=1e-3) for net in pair]


def step(pair, adams):
    call(pair)["prediction"].square().mean().backward()
    for adam in adams:
        adam.step()
        adam.zero_grad()


def write(path, pair, adams):
    """Write a file with the entries that FOMM's scripts write."""
    content = dict(zip(NAMES, (net.state_dict() for net in pair), strict=True)) | {"epoch": 7}
    torch.save(content | {f"optimizer_{n}": adam.state_dict() for n, adam in zip(NAMES, adams, strict=True)}, path)


def read(path, pair, adams):
    content = torch.load(path, weights_only=True)
    for name, net, adam in zip(NAMES, pair, adams, strict=True):
        net.load_state_dict(content[name])
        adam.load_state_dict(content[f"optimizer_{name}"])
    return content


def test_a_training_resumes_with_its_optimizers(tmp_path):
    pair = retrofitted("fomm")
    adams = optimizers(pair)
    step(pair, adams)
    write(tmp_path / "x.tar", pair, adams)
    step(pair, adams)
    again = retrofitted("fomm")
    others = optimizers(again)
    content = read(tmp_path / "x.tar", again, others)
    step(again, others)
    assert_equal(call(again), call(pair))
    depths = [next(value for key, value in content[name].items() if "depth_net" in key) for name in NAMES]
    assert depths[0].untyped_storage().data_ptr() == depths[1].untyped_storage().data_ptr()  # in the file once


def test_a_training_from_before_goes_on_with_depth(tmp_path):
    """The first step with depth is that without, since the additions still do nothing."""
    bare = networks("fomm")
    adams = optimizers(bare)
    step(bare, adams)
    write(tmp_path / "old.tar", bare, adams)
    upgrade_checkpoint(tmp_path / "old.tar", tmp_path / "new.tar", **dict(zip(NAMES, retrofitted("fomm"), strict=True)))
    pair = retrofitted("fomm", networks("fomm", seed=1))
    others = optimizers(pair)
    assert read(tmp_path / "new.tar", pair, others)["epoch"] == 7
    step(bare, adams)
    step(pair, others)
    for net, other in zip(bare, pair, strict=True):
        assert_equal(dict(net.state_dict()), dict(other.model.state_dict()))


def test_an_optimizer_of_several_networks_goes_on_with_depth(tmp_path):
    """As in TPSMM's script, whose motion network lies between and gets no depth."""
    old, new, names = tmp_path / "old.tar", tmp_path / "new.tar", ["generator", "motion", "kp_detector"]

    def order(nets):
        return [nets[1], nets[2], nets[0]]

    def adam(nets):
        return torch.optim.Adam([p for net in order(nets) for p in net.parameters()], lr=1e-3)

    bare = networks("tpsmm")
    optimizer = adam(bare)
    step(bare, [optimizer])
    content = {name: net.state_dict() for name, net in zip(names, order(bare), strict=True)}
    torch.save(content | {"optimizer": optimizer.state_dict()}, old)
    nets = retrofitted("tpsmm", networks("tpsmm", seed=1))
    parts = {"generator": nets[1], "kp_detector": nets[0]}
    upgrade_checkpoint(old, new, shared={"optimizer": order(nets)}, **parts)
    nets[2].load_state_dict(content["motion"])
    with pytest.warns(UserWarning, match="duplicate"):  # the depth network, which is frozen, belongs to both
        other = adam(nets)
    other.load_state_dict(torch.load(new, weights_only=True)["optimizer"])
    step(bare, [optimizer])
    step(nets, [other])
    for net, found in zip(bare, nets, strict=True):
        assert_equal(dict(net.state_dict()), dict(getattr(found, "model", found).state_dict()))
    for shared, message in (
        ({"optimizer": order(nets)[:2]}, "old.tar: optimizer: expected one group of .* parameters, found"),
        ({"adam": []}, "old.tar: expected an optimizer adam, found generator"),
    ):
        one_line(message, lambda shared=shared: upgrade_checkpoint(old, new, shared=shared, **parts))


def test_a_checkpoint_that_cannot_be_upgraded_is_one_line(tmp_path):
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    bare = networks("fomm")
    write(old, bare, [torch.optim.Adam([{"params": [p]} for p in net.parameters()]) for net in bare])
    pair = retrofitted("fomm")
    for names, message in (
        ({"generator": pair[1]}, "optimizer_generator: expected one group of .* parameters, found 1 and 1"),
        ({"kp_detector": pair[1]}, "old.tar: kp_detector does not fit"),
        ({"other": pair[1]}, "expected weights of other, found kp_detector, generator, epoch"),
    ):
        one_line(message, lambda names=names: upgrade_checkpoint(old, new, **names))
    assert not new.exists()


SMALL_DEPTH = {"encoder": "test_resnet.r160_in1k", "decoder_channels": (4, 4, 8, 8, 4)}


@each_family
@pytest.mark.parametrize("everything", [False, True])
@torch.no_grad()
def test_what_is_saved_is_what_is_loaded(name, everything, tmp_path):
    nets, family = retrofitted(name), FAMILIES[name]
    open_gates(nets)
    family.module.save_retrofit(tmp_path / "it", *nets[:2], everything=everything)
    others = networks(name, seed=1 if everything else 0)
    torch.manual_seed(9)
    loaded = family.module.load_retrofit(tmp_path / "it", *others[:2], SelfSupDepthNet(**SMALL_DEPTH))
    assert_equal(call([*loaded, *nets[2:]]), call(nets))
    with safe_open(tmp_path / "it" / "model.safetensors", "pt") as file:
        keys = file.keys()
    assert any(".model." in key for key in keys) == everything


def test_networks_that_were_trained_are_not_left_out_of_a_file(tmp_path):
    nets = retrofitted("fomm")
    nets[1].train()(SOURCE, nets[0](DRIVING), nets[0](SOURCE))  # changes the statistics alone
    with pytest.raises(ValueError, match=r"generator itself has changed since .* expected everything=True"):
        fomm.save_retrofit(tmp_path / "it", *nets)
    assert not (tmp_path / "it").exists()
    fomm.save_retrofit(tmp_path / "it", *nets, everything=True)


@pytest.mark.parametrize(
    "load, message",
    [
        (lambda folder: fomm.load_retrofit(folder, *networks("fomm", 1), depth_net()), "was trained on another kp_det"),
        (lambda folder: fomm.load_retrofit(folder, *networks("fomm"), depth_net(8)), r"depth_net\.\S+ is \(4,"),
        (lambda folder: tpsmm.load_retrofit(folder, *networks("tpsmm")[:2], depth_net()), "found family 'fomm'"),
        (lambda folder: fomm.load_retrofit(folder / "no", *networks("fomm"), depth_net()), "found no config.json"),
        (lambda folder: fomm.save_retrofit(folder, *networks("fomm")), "the result of retrofit, got FOMMDetector"),
    ],
    ids=["other weights", "other depth network", "other family", "nothing there", "not retrofitted"],
)
def test_a_file_that_does_not_fit_is_one_line(load, message, tmp_path):
    fomm.save_retrofit(tmp_path / "it", *retrofitted("fomm"))
    one_line(message, lambda: load(tmp_path / "it"))
