"""Families of generators by their declarations: the promises of a retrofit hold for each, and each knows the others."""

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from family_standins import EXAMPLES, OTHERS, Example, RegionPredictor
from retrofits import assert_equal, one_line
from test_retrofit_execution import replicas
from torch import Tensor, nn

from depthaware import CrossModalAttention, DaGAN, retrofit
from depthaware.retrofit import Family, fomm, liveportrait, mcnet, mraa, osfv

SOURCE, DRIVING = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
each_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def depth_net() -> nn.Module:
    """The smallest there is: the promises do not depend on it."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Sigmoid())


def networks(make: Any, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [net.eval() for net in make()]


def with_depth(example: Example, nets: list[nn.Module], moved: float = 0) -> Any:
    torch.manual_seed(3)
    pair = getattr(retrofit, example.family).retrofit(
        *nets, depth_net(), **({"levels": example.levels} if example.levels else {})
    )
    with torch.no_grad():
        for parameter in (p for part in pair for p in part.additions.parameters() if moved):
            parameter.add_(moved * torch.randn_like(parameter))
        for attention in (a for a in pair.generator.additions if isinstance(a, CrossModalAttention) and moved):
            attention.query.bias.fill_(1)  # networks this narrow have two queries or so: none may be all zero
            attention.key.bias.fill_(1)
    return pair


@each_example
@pytest.mark.parametrize("mode", ["eval", "train", "half"])
@torch.no_grad()
def test_a_retrofit_changes_nothing_until_it_is_trained(example, mode):
    nets = networks(example.networks)
    images = [SOURCE, DRIVING]
    if mode == "half":
        nets, images = [net.bfloat16() for net in nets], [image.bfloat16() for image in images]
    for net in nets:
        net.train(mode == "train")
    originals = copy.deepcopy(nets)
    assert_equal(example.call(with_depth(example, nets), *images), example.call(originals, *images))
    for net, original in zip(nets, originals, strict=True):  # batch-norm statistics, too
        assert_equal(dict(net.state_dict()), dict(original.state_dict()))


FIRST = "predictor.down_blocks.0.conv"
SITES = {
    "mraa": [FIRST, "regions", "jacobian", "bottleneck"],
    "cosegmentation": [FIRST, "shift", "segmentation", "affine", "bottleneck"],
    "osfv": ["predictor.0.conv", "resblocks_2d"],
    "osfv, SPADE": ["predictor.0.conv", "decoder"],
    "mcnet": [FIRST, "kp", "jacobian", "resblock.0", "resblock.2"],
    "liveportrait": ["detector.0", "output 'out'"],
}


@pytest.mark.parametrize("name", SITES)
def test_depth_enters_where_the_image_and_the_warped_feature_are(name):
    pair = with_depth(EXAMPLES[name], networks(EXAMPLES[name].networks))
    assert [site.path for part in pair for site in part.status().sites] == SITES[name]


@each_example
def test_all_that_is_new_trains_and_is_stored(example, tmp_path):
    nets = networks(example.networks)
    pair = with_depth(example, nets, moved=0.2)
    before = example.call(pair, SOURCE, DRIVING)["prediction"]
    optimizer = torch.optim.Adam(pair.parameter_groups(lr=0), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (
            example.call(pair, SOURCE, DRIVING)["prediction"] - DRIVING[..., : before.shape[-1], : before.shape[-1]]
        ).square().mean().backward()
        new = {name: p for part in pair for name, p in part.named_parameters() if id(p) in ids(part)}
        assert all(p.grad is not None and p.grad.any() for p in new.values())
        optimizer.step()
    with torch.no_grad():
        out = example.call(pair, SOURCE, DRIVING)
        assert not torch.equal(out["prediction"], before)
        pair.save_pretrained(tmp_path)
        load = getattr(retrofit, example.family).load_retrofit
        assert_equal(example.call(load(tmp_path, *networks(example.networks), depth_net()), SOURCE, DRIVING), out)
        assert_equal(example.call(pickle.loads(pickle.dumps(pair)), SOURCE, DRIVING), out)


def ids(part: nn.Module) -> set[int]:
    return {id(p) for p in part.trainable_parameters("new")}


@each_example
@torch.no_grad()
def test_replicas_in_threads_keep_their_depth(example):
    pair = with_depth(example, networks(example.networks), moved=0.2)
    batches = [(SOURCE, DRIVING), (DRIVING, SOURCE)]
    expected, found = [example.call(pair, *batch) for batch in batches], {}
    copies = list(zip(*(replicas(part, 2) for part in pair), strict=True))

    def run(i: int) -> None:
        with torch.no_grad():
            found[i] = [example.call(list(copies[i]), *batches[i]) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, results in found.items():
        for result in results:
            assert_equal(result, expected[i])
    assert len(found) == 2


MAKERS = {**OTHERS, **{example.family: example.networks for example in EXAMPLES.values()}}


# Halves that two families have in common: FOMM's detector, MCNet's decoder, and a bottleneck alone.
SHARED = [
    ("fomm", "mcnet", "cam"),
    ("mcnet", "fomm", "cam"),
    ("mcnet", "tpsmm", "fdn"),
    ("mraa", "cosegmentation", "fdn"),
    ("fomm", "cosegmentation", "fdn"),
]


@pytest.mark.parametrize("name", MAKERS)
def test_the_wrong_family_names_the_right_one(name):
    """For each half alone, too."""
    nets = networks(MAKERS[name])
    for other in MAKERS.keys() - {name}:
        for options in ({}, {"fdn": False}, {"cam": False}):
            try:
                getattr(retrofit, other).retrofit(*nets, depth_net(), **options)
            except ValueError as error:
                assert "\n" not in str(error) and str(error).endswith(f": use integrations.{name}")
            else:
                assert (name, other, *options) in SHARED


def test_what_no_family_knows_is_told_of_targets():
    nets = [nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Sequential(nn.Conv2d(3, 3, 1))]
    one_line(
        "kp_detector: expected one submodule named 'kp', found 0; if this is a fork of FOMM, give the .* as targets=",
        lambda: fomm.retrofit(*nets, depth_net()),
    )
    one_line(
        "found '0', a Conv3d with 3; if", lambda: fomm.retrofit(nn.Sequential(nn.Conv3d(3, 3, 1)), nets[1], depth_net())
    )


def renamed(net: nn.Module, **names: str) -> nn.Module:
    for old, new in names.items():
        net._modules[new] = net._modules.pop(old)
    return net


class Fork(nn.Module):
    """MRAA's networks under other names, inside of another module."""

    def __init__(self, net: nn.Module, names: dict[str, str]) -> None:
        super().__init__()
        self.inner, self.names = net, names

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        for old, new in self.names.items():
            object.__setattr__(self.inner, old, self.inner._modules[new])
        return self.inner(*args, **kwargs)


TARGETS = {"regions": "inner.areas", "jacobian": "inner.axes", "bottleneck": "inner.middle", "first": "inner.stem"}


@torch.no_grad()
def test_a_fork_with_other_names_is_retrofitted_by_targets(tmp_path):
    example = EXAMPLES["mraa"]
    nets = networks(example.networks)
    before = example.call(nets, SOURCE, DRIVING)
    names = [{"regions": "areas", "jacobian": "axes"}, {"bottleneck": "middle", "first": "stem"}]
    forks = [Fork(renamed(net, **given), given).eval() for net, given in zip(nets, names, strict=True)]
    assert_equal(example.call(forks, SOURCE, DRIVING), before)
    one_line("named 'regions', found .* as targets=", lambda: mraa.retrofit(*forks, depth_net()))
    pair = mraa.retrofit(*forks, depth_net(), targets=TARGETS)
    assert [site.path for part in pair for site in part.status().sites] == [
        "inner.predictor.down_blocks.0.conv",
        "inner.areas",
        "inner.axes",
        "inner.middle",
    ]
    assert_equal(example.call(pair, SOURCE, DRIVING), before)
    pair.save_pretrained(tmp_path)
    assert mraa.load_retrofit(tmp_path, *forks, depth_net()).generator.options["targets"] == TARGETS
    for targets, message in (
        ({"middle": "inner.middle"}, "targets: expected names of bottleneck, .*regions; got 'middle'"),
        ({**TARGETS, "bottleneck": "middle"}, "bottleneck: expected the path of a part of generator, got 'middle'"),
        ({**TARGETS, "regions": "inner.predictor"}, "expected a Conv2d 'inner.predictor', found Hourglass"),
    ):
        one_line(message, lambda targets=targets: mraa.retrofit(*forks, depth_net(), targets=targets))


@torch.no_grad()
def test_a_family_of_ones_own_is_a_few_lines():
    mine = Family(
        "mine", "my generator", heads=("regions",), arguments=("driving_region_params",), keypoints=("shift",)
    )
    example = EXAMPLES["mraa"]
    nets = networks(example.networks)
    before = example.call(nets, SOURCE, DRIVING)
    pair = mine.retrofit(*nets, depth_net())
    assert_equal(example.call(pair, SOURCE, DRIVING), before)
    assert len(pair.kp_detector.additions) == 2 and pair.generator.options["family"] == "mine"


def test_regions_of_principal_axes_have_no_jacobian_head():
    nets = [RegionPredictor(regressed=False), networks(EXAMPLES["mraa"].networks)[1]]
    assert len(mraa.retrofit(*nets, depth_net()).kp_detector.additions) == 2


@each_example
def test_missing_entries_are_one_line(example):
    family = getattr(retrofit, example.family)
    pair = with_depth(example, networks(example.networks))
    if example.family == "liveportrait":
        return one_line(
            r"feature_3d: expected an image \(B, 3, H, W\) or depth=, found \(2, 8, 2, 8, 8\)",
            lambda: pair.generator(torch.rand(2, 8, 2, 8, 8), torch.rand(2, 3, 3), torch.rand(2, 3, 3)),
        )
    kp: dict[str, Any] = {name: pair.kp_detector(SOURCE) for name in example.arguments}
    declared: Family = getattr(family, example.family.upper())
    first, second = declared.keypoints
    driving, source = example.arguments
    without = {key: value for key, value in kp[driving].items() if key != first}
    one_line(
        f"key points: expected '{first}' and '{second}'", lambda: pair.generator(SOURCE, **{**kp, driving: without})
    )
    one_line("expected .* found Tensor", lambda: pair.generator(SOURCE, **{**kp, driving: SOURCE}))
    more = {**kp[driving], second: torch.eye(2)}
    less = {key: value for key, value in kp[source].items() if key != second}
    one_line(f"key points: {driving} has .*, {source}", lambda: pair.generator(SOURCE, **{driving: more, source: less}))


def test_levels_are_those_that_the_decoder_has():
    nets = networks(EXAMPLES["mcnet"].networks)
    one_line("levels: expected 1 to 2, got 3", lambda: mcnet.retrofit(*nets, depth_net(), levels=3))
    nets = networks(EXAMPLES["mraa"].networks)
    one_line("levels: expected 1, got 2", lambda: mraa.retrofit(*nets, depth_net(), levels=2))


def test_key_points_become_this_librarys_where_they_are_flat():
    kp = networks(EXAMPLES["mraa"].networks)[0](SOURCE)
    assert mraa.keypoints(kp).value is kp["shift"] and mraa.keypoints(kp).jacobian is kp["affine"]
    one_line(
        r"positions \(B, N, 2\), found \(1, 3, 3\)", lambda: osfv.OSFV.read_keypoints({"value": torch.ones(1, 3, 3)})
    )


class Broken(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"predicted_depth": image[:, 0]}


def test_the_wrong_depth_network_is_one_line():
    nets = networks(OTHERS["fomm"])
    one_line("depth_net: expected a module .*, found NoneType", lambda: fomm.retrofit(*nets, None))
    model = DaGAN.from_pretrained("dagan-tiny")
    one_line("found DaGAN; pass its .depth_net", lambda: fomm.retrofit(*nets, model))
    one_line("depth_net: expected a disp.*, got dict", lambda: fomm.retrofit(*nets, Broken()).kp_detector(SOURCE))


@torch.no_grad()
def test_liveportraits_loop_takes_its_depth_from_outside():
    """A loop that cannot be changed, and one whose output lacks the feature."""
    example = EXAMPLES["liveportrait"]
    pair = with_depth(example, networks(example.networks), moved=0.2)
    expected = example.call(pair, SOURCE, DRIVING)
    volume = nn.functional.avg_pool2d(SOURCE.repeat(1, 6, 1, 1)[:, :16], 4).unflatten(1, (8, 2))
    kp = [pair[0](x)["kp"].unflatten(1, (3, 3)) for x in (DRIVING, SOURCE)]
    with pair.generator.with_depth(pair.generator.encode_depth(SOURCE)):
        assert torch.equal(pair.generator(volume, *kp)["out"], expected["out"])
    assert "output 'out': CrossModalAttention" in str(pair.generator.status())

    class Tuple(type(networks(example.networks)[1])):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return tuple(super().forward(*args, **kwargs).values())

    _, generator = liveportrait.retrofit(networks(example.networks)[0], Tuple(), depth_net())
    depth = generator.encode_depth(SOURCE)
    one_line("Tuple: expected an output with 'out', found tuple", lambda: generator(volume, *kp, depth=depth))
