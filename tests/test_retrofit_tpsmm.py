"""TPSMM: attention at every level, and what does not fit."""

import standins
import torch
from retrofits import SOURCE, assert_equal, call, depth_net, networks, one_line, open_gates

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


@torch.no_grad()
def test_attention_enters_each_level_with_its_warped_feature():
    """The last channels of the input of the first residual block; those before them are decoded already."""
    nets = networks("tpsmm")
    _, generator = tpsmm.retrofit(*nets[:2], depth_net(), levels=3)
    open_gates([generator])
    blocks, before, after, added = [nets[1].resblock[2 * level] for level in range(3)], [], [], []
    for block in blocks:  # these hooks come after those of the retrofit
        block.register_forward_pre_hook(lambda _, args: after.append(args[0]))
    for addition in generator.additions:
        addition.register_forward_hook(lambda _, args, output: added.append((args[1], output)))
    call(nets)
    before, after = after, []
    call([nets[0], generator, nets[2]])
    assert [x.shape[1] for x in before] == [32, 32, 16] and [x.shape[1] for x, _ in added] == [32, 16, 8]
    for bare, deep, (given, made) in zip(before, after, added, strict=True):
        width = made.shape[1]
        assert torch.equal(given, bare[:, -width:])
        assert torch.equal(deep[:, -width:], made) and not torch.equal(made, given)


def test_tpsmm_refuses_likewise():
    one_line("'resblock', found", lambda: tpsmm.retrofit(networks("tpsmm")[0], standins.FOMMGenerator(), depth_net()))
    one_line("levels: expected 1 to 3, got 4", lambda: tpsmm.retrofit(*networks("tpsmm")[:2], depth_net(), levels=4))
    one_line("expected 'fg_kp', found value", lambda: tpsmm.keypoints({"value": torch.zeros(1, 5, 2)}))
    assert tpsmm.keypoints(networks("tpsmm")[0](SOURCE)).value.shape == (2, 10, 2)
