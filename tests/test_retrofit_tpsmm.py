"""TPSMM: attention at every level, and what does not fit."""

import standins
import torch
from retrofits import SOURCE, assert_equal, call, depth_net, networks, one_line

from depthaware.retrofit import tpsmm


@torch.no_grad()
def test_every_level_of_tpsmm_gets_its_own_depth():
    nets = networks("tpsmm")
    before = call(nets)
    for levels in (1, 2, 3):
        _, generator = tpsmm.retrofit(*nets[:2], depth_net(), levels=levels)
        shapes: list[tuple[int, ...]] = []
        for addition in generator.additions:
            addition.register_forward_pre_hook(lambda _, args, shapes=shapes: shapes.append(tuple(args[0].shape)))
        assert_equal(call([nets[0], generator, nets[2]]), before)
        assert shapes == [(2, 32, 8, 8), (2, 16, 16, 16), (2, 8, 32, 32)][:levels]


def test_tpsmm_refuses_likewise():
    one_line("'resblock', found", lambda: tpsmm.retrofit(networks("tpsmm")[0], standins.FOMMGenerator(), depth_net()))
    one_line("levels: expected 1 to 3, got 4", lambda: tpsmm.retrofit(*networks("tpsmm")[:2], depth_net(), levels=4))
    one_line("expected 'fg_kp', found value", lambda: tpsmm.keypoints({"value": torch.zeros(1, 5, 2)}))
    assert tpsmm.keypoints(networks("tpsmm")[0](SOURCE)).value.shape == (2, 10, 2)
