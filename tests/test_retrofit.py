"""Depth for networks that others trained: at first nothing changes, then everything new trains, and nothing else."""

import copy
import csv
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import retrofit_fomm
import standins
import test_checkpoint as checkpoints
import torch
from clips import make_clip
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from depthaware import CrossModalAttention, DaGAN, SelfSupDepthNet
from integrations import fomm, tpsmm


class Family(NamedTuple):
    """A pair of networks (and what else it takes) that depth is for, and the retrofit."""

    module: ModuleType
    networks: Callable[[], list[nn.Module]]
    options: dict[str, Any]


FAMILIES = {
    "fomm": Family(fomm, lambda: [standins.FOMMDetector(), standins.FOMMGenerator()], {}),
    "tpsmm": Family(
        tpsmm, lambda: [standins.TPSDetector(), standins.TPSGenerator(), standins.TPSMotion()], {"levels": 2}
    ),
}
each_family = pytest.mark.parametrize("name", FAMILIES)
SOURCE, DRIVING = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def networks(name: str, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [network.eval() for network in FAMILIES[name].networks()]


def depth_net(width: int = 4) -> SelfSupDepthNet:
    torch.manual_seed(2)
    return SelfSupDepthNet("test_resnet.r160_in1k", decoder_channels=(4, 4, 8, 8, width))


def retrofitted(name: str, nets: list[nn.Module] | None = None) -> list[nn.Module]:
    nets = nets or networks(name)
    torch.manual_seed(3)
    pair = FAMILIES[name].module.retrofit(*nets[:2], depth_net(), **FAMILIES[name].options)
    return [*pair, *nets[2:]]


def call(nets: list[nn.Module], source: Tensor = SOURCE, driving: Tensor = DRIVING) -> dict[str, Tensor]:
    """As the demo scripts of both do it."""
    kp_detector, generator, *motion = nets
    kp_source, kp_driving = kp_detector(source), kp_detector(driving)
    if motion:
        out = generator(source, motion[0](source, kp_driving=kp_driving, kp_source=kp_source))
    else:
        out = generator(source, kp_driving=kp_driving, kp_source=kp_source)
    return {**out, **{f"driving {key}": value for key, value in kp_driving.items()}}


def open_gates(nets: list[nn.Module], scale: float = 1.0) -> None:
    """Away from the start, where most of what is new has no effect."""
    torch.manual_seed(4)
    with torch.no_grad():
        for net in nets[:2]:
            for parameter in net.additions.parameters():
                parameter.add_(scale * torch.randn_like(parameter))
            for attention in (a for a in net.additions if isinstance(a, CrossModalAttention)):
                attention.query.bias.fill_(1)  # networks this narrow have two queries or so: none may be all zero
                attention.key.bias.fill_(1)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=0, rtol=0, msg=lambda line, key=key: f"{key}: {line}")


def assert_differs(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert not torch.equal(found["prediction"], expected["prediction"])


# At the start nothing changes.


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


# It is the paper's model.


@pytest.fixture(scope="module")
def fomm_checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fomm") / "fomm.pth.tar"
    torch.save(checkpoints.content(checkpoints.model(**checkpoints.FOMM)), path)
    return path


@pytest.mark.parametrize("align_corners", [True, False])
@torch.no_grad()
def test_a_retrofitted_fomm_is_a_dagan(fomm_checkpoint, align_corners):
    """Weights widened and put into `DaGAN`, which knows nothing of hooks."""
    plain = DaGAN.from_checkpoint(fomm_checkpoint, align_corners=align_corners)
    nets = list(fomm.retrofit(*fomm.load_fomm(fomm_checkpoint, align_corners=align_corners), depth_net()))
    open_gates(nets)
    config = plain.config | {"keypoint_input": "rgbd", "attention": "cross", "depth_channels": (4, 4, 8, 8, 4)}
    model = DaGAN(**config | {"depth_encoder": "test_resnet.r160_in1k"}).eval()
    state = plain.state_dict()
    names = ("hourglass.down_blocks.0.conv", "kp", "jacobian")
    for key, addition in zip(names, nets[0].additions, strict=True):
        key = f"kp_detector.{key}.weight"
        state[key] = torch.cat((state[key], addition.conv.weight), dim=1)
    for prefix, part in {
        "depth_net.": nets[0].depth_net,
        "generator.depth_encoder.": nets[1].depth_encoder,
        "generator.attention.": nets[1].additions[0],
    }.items():
        state |= {prefix + key: value for key, value in part.state_dict().items()}
    model.load_state_dict(state)
    out, found = model(SOURCE, DRIVING), call(nets)
    torch.testing.assert_close(found["prediction"], out.prediction, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["driving jacobian"], out.kp_driving.jacobian, atol=1e-5, rtol=1e-5)


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


# Then everything new trains, and nothing else unless asked for.


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


# On disk.


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


SMALL_DEPTH = {"encoder": "test_resnet.r160_in1k", "decoder_channels": (4, 4, 8, 8, 4)}


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
        (lambda folder: fomm.save_retrofit(folder, *networks("fomm")), "what retrofit returns, got FOMMDetector"),
    ],
    ids=["other weights", "other depth network", "other family", "nothing there", "not retrofitted"],
)
def test_a_file_that_does_not_fit_is_one_line(load, message, tmp_path):
    fomm.save_retrofit(tmp_path / "it", *retrofitted("fomm"))
    one_line(message, lambda: load(tmp_path / "it"))


def one_line(pattern: str, run: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        run()
    assert "\n" not in str(caught.value)


# Other ways to run.


@each_family
@torch.no_grad()
def test_compiled_it_is_the_same(name):
    nets = retrofitted(name)
    open_gates(nets)
    compiled = [torch.compile(net, backend="eager", fullgraph=True) for net in nets[:2]]
    for source, driving in ((SOURCE, DRIVING), (DRIVING, SOURCE)):  # the depth of the second is not that of the first
        expected = call(nets, source, driving)
        found = call([*compiled, *nets[2:]], source, driving)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_compiled_it_trains():
    nets = retrofitted("fomm")
    open_gates(nets, 0.1)
    grads = []
    for pair in (nets, [nets[0], torch.compile(nets[1], backend="aot_eager")]):
        nets[0].zero_grad(), nets[1].zero_grad()
        call(pair)["prediction"].square().mean().backward()
        grads.append([p.grad.clone() for net in nets for p in net.trainable_parameters("all")])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-6, rtol=1e-4)


@each_family
@torch.no_grad()
def test_copies_and_pickles_are_whole(name):
    nets = retrofitted(name)
    open_gates(nets)
    expected = call(nets)
    for again in (copy.deepcopy(nets), pickle.loads(pickle.dumps(nets))):
        for net in nets[:2]:
            for parameter in net.additions.parameters():
                parameter.zero_()
        assert_equal(call(again), expected)
        open_gates(nets)


def replicas(network: nn.Module, count: int) -> list[nn.Module]:
    """What DataParallel makes of a module for each GPU; here all tensors stay where they are."""
    modules = list(network.modules())
    made = []
    for _ in range(count):
        copies = {module: module._replicate_for_data_parallel() for module in modules}
        for module, replica in copies.items():
            replica._modules = {name: child and copies[child] for name, child in module._modules.items()}
            replica._parameters = dict(module._parameters)
        made.append(copies[network])
    return made


@each_family
def test_replicas_in_threads_do_not_mix_up_their_images(name):
    nets = retrofitted(name)
    open_gates(nets)
    pairs = list(zip(*(replicas(net, 2) for net in nets), strict=True))
    batches = [(SOURCE, DRIVING), (DRIVING, SOURCE)]
    with torch.no_grad():
        expected = [call(nets, *batch) for batch in batches]
        found: list[Any] = [None, None]

        def run(i: int) -> None:
            with torch.no_grad():  # of each thread
                found[i] = [call(pairs[i], *batches[i]) for _ in range(4)]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in range(2):
        for result in found[i]:
            assert_equal(result, expected[i])


class Both(nn.Module):
    """As training scripts put networks under one roof."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        return (call(list(self.nets), source, driving)["prediction"] - driving).square().mean()


def gradients(model: Both) -> list[Tensor]:
    return [p.grad for net in model.nets[:2] for p in net.trainable_parameters("all")]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/gloo", rank=rank, world_size=2)
    model = Both(retrofitted("fomm"))
    open_gates(list(model.nets), 0.1)
    wrapped = DistributedDataParallel(model)
    for _ in range(2):  # a parameter without gradient is an error in the second
        wrapped.zero_grad()
        wrapped(SOURCE[rank : rank + 1], DRIVING[rank : rank + 1]).backward()
    if rank == 0:
        torch.save(gradients(model), f"{folder}/gradients.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_like_one(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    model = Both(retrofitted("fomm"))
    open_gates(list(model.nets), 0.1)
    model(SOURCE, DRIVING).backward()
    torch.testing.assert_close(torch.load(tmp_path / "gradients.pt"), gradients(model), atol=1e-6, rtol=1e-3)


# What does not fit is told in one line: what was looked for, what was found.


def without(network: nn.Module, part: str) -> nn.Module:
    delattr(network, part)
    return network


def fomm_pair(kp_detector: nn.Module | None = None, generator: nn.Module | None = None) -> list[nn.Module]:
    return [kp_detector or standins.FOMMDetector(), generator or standins.FOMMGenerator()]


@pytest.mark.parametrize(
    "pair, message",
    [
        (lambda: fomm_pair(standins.FOMMDetector(channels=4)), "first convolution that takes 3 channels, found .* 4$"),
        (lambda: fomm_pair(nn.Linear(3, 3)), "kp_detector: looked for a first convolution .* found none"),
        (lambda: fomm_pair(without(standins.FOMMDetector(), "kp")), "called 'kp', found predictor, jacobian, down"),
        (
            lambda: fomm_pair(None, without(standins.FOMMGenerator(), "dense_motion_network")),
            "'dense_motion_network', f",
        ),
        (lambda: fomm_pair(None, without(standins.FOMMGenerator(), "bottleneck")), "generator: .* 'bottleneck', found"),
        (lambda: fomm_pair(None, without(standins.FOMMGenerator(), "down_blocks")), "'down_blocks' beside 'first', f"),
        (lambda: fomm_pair(None, nn.Sequential(*(standins.FOMMGenerator() for _ in range(2)))), "found 0.dense_motion"),
        (lambda: networks("tpsmm")[:2], "kp_detector: looked for one submodule called 'kp', found fg_encoder, fc"),
        (lambda: fomm_pair()[::-1], "kp_detector: looked for a first convolution that takes 3 channels"),
        (lambda: retrofitted("fomm"), r"kp_detector: .* found a retrofitted one; remove\(\) undoes that"),
        (lambda: [nn.DataParallel(net) for net in fomm_pair()], "found DataParallel; pass its .module"),
    ],
)
def test_a_pair_that_is_not_fomms_is_refused(pair, message):
    one_line(message, lambda: fomm.retrofit(*pair(), depth_net()))


def test_tpsmm_refuses_likewise():
    one_line("'resblock', found", lambda: tpsmm.retrofit(networks("tpsmm")[0], standins.FOMMGenerator(), depth_net()))
    one_line("levels: expected 1 to 3, got 4", lambda: tpsmm.retrofit(*networks("tpsmm")[:2], depth_net(), levels=4))
    one_line("looked for 'fg_kp', found value", lambda: tpsmm.keypoints({"value": torch.zeros(1, 5, 2)}))
    assert tpsmm.keypoints(networks("tpsmm")[0](SOURCE)).value.shape == (2, 10, 2)


@pytest.mark.parametrize("missing", ["kp_driving", "kp_source"])
@pytest.mark.parametrize("entry", ["value", "jacobian"])
def test_key_points_with_a_missing_entry_are_refused(missing, entry):
    kp_detector, generator = retrofitted("fomm")
    kp = {"kp_driving": kp_detector(DRIVING), "kp_source": kp_detector(SOURCE)}
    del kp[missing][entry]
    message = "looked for 'value'" if entry == "value" else "kp_driving has value.*, kp_source value"
    one_line(message, lambda: generator(SOURCE, **kp))


def test_key_points_without_jacobians_are_fine():
    nets = [standins.FOMMDetector(jacobian=False, scale=1).eval(), standins.FOMMGenerator().eval()]
    before = call(nets)
    new = list(fomm.retrofit(*nets, depth_net()))
    assert_equal(call(new), before)
    assert len(new[0].additions) == 2


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


# FOMM without its code.


@torch.no_grad()
def test_load_fomm_is_the_checkpoint(fomm_checkpoint):
    model = DaGAN.from_checkpoint(fomm_checkpoint)
    nets = list(fomm.load_fomm(fomm_checkpoint, CONFIG))
    found, out = call(nets), model(SOURCE, DRIVING)
    assert model.config["align_corners"]
    assert found.keys() > {"prediction", "mask", "occlusion_map", "deformed", "sparse_deformed"}
    torch.testing.assert_close(found["prediction"], out.prediction)
    torch.testing.assert_close(found["deformed"], out.deformed)
    assert not any(net.training for net in nets)


CONFIG = {
    "model_params": {
        "common_params": {"num_kp": 3, "num_channels": 3, "estimate_jacobian": True},
        "kp_detector_params": {"temperature": 0.1, "block_expansion": 4, "num_blocks": 2, "scale_factor": 0.5},
        "generator_params": {
            "block_expansion": 4,
            "num_down_blocks": 2,
            "num_bottleneck_blocks": 2,
            "dense_motion_params": {"block_expansion": 4, "num_blocks": 2, "scale_factor": 0.5},
        },
    }
}


def test_the_config_is_read_and_compared(fomm_checkpoint, tmp_path):
    text = re.sub(r"'(\w+)'", r"\1", str(CONFIG)).replace("0.1", "0.2")
    (tmp_path / "fomm.yaml").write_text(text)
    kp_detector, _ = fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml")
    assert kp_detector.detector.temperature == 0.2
    (tmp_path / "fomm.yaml").write_text(text.replace("num_kp: 3", "num_kp: 10"))
    one_line(
        "config: expected the checkpoint's num_kp 3, got 10",
        lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml"),
    )
    for content in ("model_params: [", "just: this", "[]"):
        (tmp_path / "fomm.yaml").write_text(content)
        one_line("looked for FOMM's model_params", lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "fomm.yaml"))
    one_line("none.yaml: cannot be read", lambda: fomm.load_fomm(fomm_checkpoint, tmp_path / "none.yaml"))


def test_a_dagan_is_no_fomm(tmp_path):
    torch.save(checkpoints.content(checkpoints.model(keypoint_input="rgb", attention="self")), tmp_path / "x.pth.tar")
    one_line("x.pth.tar: expected a FOMM, found attention", lambda: fomm.load_fomm(tmp_path / "x.pth.tar"))


def test_the_recipe_runs(fomm_checkpoint, tmp_path, capsys):
    """Two steps of each stage, on clips made on the spot; what it leaves loads."""
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "kind", "split", "identity"])
        for split in ("train", "test"):
            (tmp_path / split / "clips").mkdir(parents=True)
            writer.writerow([f"{split}_0", "clip", split, split])
            make_clip(tmp_path / split / "clips" / f"{split}_0.mp4", frames=4, size=(64, 64))
    options = {"data": str(tmp_path), "checkpoint": str(fomm_checkpoint), "output": str(tmp_path / "run")}
    options |= {"size": 64, "detector_images": 4, "images": 4, "batch": 2, "threads": 1}
    retrofit_fomm.main(retrofit_fomm.Options(**options))
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("before: L1 ") and after.startswith("after: L1 ")
    depth = DaGAN.from_pretrained("dagan-tiny").depth_net
    loaded = fomm.load_retrofit(tmp_path / "run", *fomm.load_fomm(fomm_checkpoint), depth)
    assert all(addition.conv.weight.any() for addition in loaded[0].additions)
