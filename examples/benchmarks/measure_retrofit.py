"""Retrofit of FOMM's own code: what stays the same, what trains, and the time of a frame.

    python examples/benchmarks/measure_retrofit.py CHECKOUT

CHECKOUT is one of the repository AliaksandrSiarohin/first-order-model, whose config/vox-256.yaml is read. Weights are
random, and additions moved at random where depth is to have an effect; times are CPU seconds of one thread, best of 6.
"""

import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from depthaware import DaGAN
from depthaware.retrofit import fomm

Pair = tuple[nn.Module, nn.Module]


class Checkpointed(nn.Module):
    """A part of a network that the backward pass computes again."""

    def __init__(self, part: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.part, self.reentrant = part, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=self.reentrant)


def networks(checkout: Path) -> Pair:
    """Key point detector and generator of the authors' code."""
    sys.path.insert(0, str(checkout))
    from modules.generator import OcclusionAwareGenerator
    from modules.keypoint_detector import KPDetector

    params = yaml.safe_load((checkout / "config/vox-256.yaml").read_text())["model_params"]
    common = params["common_params"]
    detector = KPDetector(**params["kp_detector_params"], **common)
    return detector.eval(), OcclusionAwareGenerator(**params["generator_params"], **common).eval()


def frame(pair: Pair, source: Tensor, driving: Tensor) -> Tensor:
    kp_detector, generator = pair
    return generator(source, kp_source=kp_detector(source), kp_driving=kp_detector(driving))["prediction"]


def differ(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def gradients(pair: fomm.Pair, source: Tensor, driving: Tensor) -> list[Tensor]:
    for part in pair:
        part.zero_grad()
    (frame(pair, source, driving) - driving).square().mean().backward()
    return [p.grad.clone() for part in pair for p in part.trainable_parameters("all") if p.grad is not None]


def compare(checkout: Path, source: Tensor, driving: Tensor) -> None:
    """Print differences, 0 where nothing may change."""
    bare, depth_net = networks(checkout), DaGAN.from_pretrained("dagan-tiny").depth_net
    original, state = copy.deepcopy(bare), [copy.deepcopy(net.state_dict()) for net in bare]
    pair = fomm.retrofit(*bare, depth_net)
    with torch.no_grad():
        before = frame(original, source, driving)
        print(f"retrofitted, eval mode: {differ(frame(pair, source, driving), before):.1e}")
        for net in (*pair, *original):
            net.train()
        print(f"train mode: {differ(frame(pair, source, driving), frame(original, source, driving)):.1e}")
        buffers = zip(*([b for net in nets for b in net.buffers()] for nets in (bare, original)), strict=True)
        print(f"batch-norm statistics: {max(differ(a, b) for a, b in buffers):.1e}")
        for part, tensors in zip(pair, state, strict=True):
            part.eval().load_state_dict(tensors)
        print(f"a state dict from before, loaded: {differ(frame(pair, source, driving), before):.1e}")
    optimizer = torch.optim.Adam(pair.parameter_groups(lr=0))
    for _ in range(3):
        gradients(pair, source, driving)
        optimizer.step()
    with torch.no_grad():
        print(f"effect of three steps: {differ(frame(pair, source, driving), before):.1e}")
        for parameter in (p for part in pair for p in part.additions.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    expected = gradients(pair, source, driving)
    count = sum(len(part.trainable_parameters("all")) for part in pair)
    print(f"parameters with a gradient: {sum(bool(g.any()) for g in expected)} of {count}")
    store(checkout, pair, source, driving)
    bottleneck = pair.generator.model.bottleneck
    for reentrant in (True, False):
        pair.generator.model.bottleneck = Checkpointed(bottleneck, reentrant)
        found = zip(gradients(pair, source, driving), expected, strict=True)
        print(f"gradients under checkpointing, reentrant {reentrant}: {max(differ(a, b) for a, b in found):.1e}")
    pair.generator.model.bottleneck = bottleneck


@torch.no_grad()
def store(checkout: Path, pair: fomm.Pair, source: Tensor, driving: Tensor) -> None:
    expected = frame(pair, source, driving)
    with tempfile.TemporaryDirectory() as folder:
        pair.save_pretrained(folder, everything=True)
        loaded = fomm.load_retrofit(folder, *networks(checkout), DaGAN.from_pretrained("dagan-tiny").depth_net)
    print(f"saved and loaded: {differ(frame(loaded, source, driving), expected):.1e}")
    merged = fomm.merge(*pair)
    print(f"merged into a DaGAN: {differ(merged(source, driving).prediction, expected):.1e}")


@torch.no_grad()
def times(checkout: Path, source: Tensor, driving: Tensor) -> None:
    """Print the time of one frame, key points of the driving frame included."""
    bare = networks(checkout)
    kp_source = bare[0](source)
    pair = fomm.retrofit(*bare, DaGAN.from_pretrained("dagan-tiny").depth_net)
    depth = pair.generator.encode_depth(source)

    def run(kp_detector: nn.Module, generator: nn.Module, **options: list[Tensor]) -> None:
        generator(source, kp_source=kp_source, kp_driving=kp_detector(driving), **options)

    runs: dict[str, Callable[[], None]] = {
        "without depth": lambda: run(*bare),
        "retrofitted": lambda: run(*pair),
        "depth of the source computed once": lambda: run(*pair, depth=depth),
    }
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(6):
        for name, call in runs.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    for name, seconds in best.items():
        print(f"{name}: {seconds:.3f} s, {100 * (seconds / best['without depth'] - 1):+.0f} %")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of FOMM's code under today's PyTorch
    torch.manual_seed(0)
    torch.set_num_threads(1)
    compare(Path(sys.argv[1]), *torch.rand(2, 2, 3, 128, 128))
    times(Path(sys.argv[1]), *torch.rand(2, 1, 3, 256, 256))
