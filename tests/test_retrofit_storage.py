"""Retrofits on disk: what is saved is what is loaded, and what does not fit is refused."""

import pytest
import torch
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

from depthaware import SelfSupDepthNet
from depthaware.retrofit import fomm, tpsmm

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
