"""Peak memory and time of `CrossModalAttention(256)` against the plain formula with its N x N map.

    python examples/benchmarks/measure_attention.py [--backward] [--sides 64,128] [--threads 2]

Every figure comes from a process of its own: the peak of its resident memory over what it held with inputs and output
allocated. For the backward pass, the gradients of inputs and parameters count as well. Linux only.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

import torch
from measurement import release_memory, resident, restart_peak
from torch import Tensor

from depthaware import CrossModalAttention
from depthaware.training.options import option, run_recipe


class PlainAttention(CrossModalAttention):
    """The same result from the formula as printed."""

    def forward(self, depth_feature: Tensor, feature: Tensor) -> Tensor:
        query, key, value = (
            torch.relu(layer(x)).flatten(2)
            for layer, x in ((self.query, depth_feature), (self.key, feature), (self.value, feature))
        )
        weights = (query.transpose(1, 2) @ key).softmax(dim=-1)
        return self.gate * (value @ weights.transpose(1, 2)).view_as(feature) + feature


ATTENTIONS = {"ours": CrossModalAttention, "plain": PlainAttention}


@dataclass(frozen=True)
class Options:
    """Passes and sizes that are measured."""

    backward: bool = option(False, "forward and backward, as in training")
    sides: str = option("64,128", "sides of the feature map, separated by commas")
    threads: int = option(torch.get_num_threads(), "threads of the CPU")
    only: Literal["ours", "plain"] | None = option(
        None, "measure one of the two in this process, at the first side, and print MB and seconds; both if not given"
    )


def measure(kind: str, side: int, backward: bool) -> tuple[float, float]:
    """Peak memory over inputs and output in MB, and seconds."""
    torch.manual_seed(0)
    attend = ATTENTIONS[kind]()
    attend.gate.data.fill_(1.0)

    def step(*features: Tensor) -> Tensor:
        with torch.set_grad_enabled(backward):
            result = attend(*(feature.requires_grad_(backward) for feature in features))
        if backward:
            result.sum().backward()
        return result.detach()

    step(*torch.rand(2, 1, 256, 48, 48))  # loads the code of the kernels, which is not to count
    attend.zero_grad()
    release_memory()
    features = torch.rand(2, 1, 256, side, side).unbind()
    before = restart_peak()
    start = time.perf_counter()
    result = step(*features)
    seconds = time.perf_counter() - start
    return (resident("VmHWM") - before - result.nbytes) / 1e6, seconds


def main(options: Options) -> None:
    sides = [int(side) for side in options.sides.split(",")]
    if options.only:
        torch.set_num_threads(options.threads)
        print(*measure(options.only, sides[0], options.backward))
        return
    print(f"{'positions':>10}  {'':6}{'peak MB':>9}{'seconds':>9}")
    for side in sides:
        for kind in ATTENTIONS:
            flags = ["--only", kind, "--sides", str(side), "--threads", str(options.threads)]
            command = [sys.executable, __file__, *flags, *["--backward"] * options.backward]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            megabytes, seconds = map(float, output.split())
            print(f"{side:>4} x {side:<4} {kind:>6}{megabytes:9.0f}{seconds:9.2f}", flush=True)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
