"""Small third-party networks, their retrofits, and comparisons of their outputs."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import standins
import torch
from torch import Tensor, nn

from depthaware import CrossModalAttention, SelfSupDepthNet
from depthaware.retrofit import fomm, tpsmm


class Family(NamedTuple):
    """Networks of a family of generators, and arguments of their retrofit."""

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
    """Detect key points and generate, as the demo scripts of both families do."""
    kp_detector, generator, *motion = nets
    kp_source, kp_driving = kp_detector(source), kp_detector(driving)
    if motion:
        out = generator(source, motion[0](source, kp_driving=kp_driving, kp_source=kp_source))
    else:
        out = generator(source, kp_driving=kp_driving, kp_source=kp_source)
    return {**out, **{f"driving {key}": value for key, value in kp_driving.items()}}


def open_gates(nets: list[nn.Module], scale: float = 1.0) -> None:
    """Move the additions away from their start, where most of them have no effect."""
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


def one_line(pattern: str, run: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        run()
    assert "\n" not in str(caught.value)
