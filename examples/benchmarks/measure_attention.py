"""Peak memory and time of `CrossModalAttention(256)` against the plain formula with its N x N map.

    python examples/benchmarks/measure_attention.py [--backward] [--sides 64 128] [--threads 2]

Every figure comes from a process of its own: the peak of its resident memory over what it held with inputs and output
allocated. For the backward pass, the gradients of inputs and parameters count as well.
"""

import argparse
import ctypes
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from depthaware import CrossModalAttention


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


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(kind: str, side: int, backward: bool) -> tuple[float, float]:
    """Peak memory over inputs and output in MB, and seconds."""
    torch.manual_seed(0)
    attend = ATTENTIONS[kind]()
    attend.gate.data.fill_(1.0)

    def run(*features: Tensor) -> Tensor:
        with torch.set_grad_enabled(backward):
            result = attend(*(feature.requires_grad_(backward) for feature in features))
        if backward:
            result.sum().backward()
        return result.detach()

    run(*torch.rand(2, 1, 256, 48, 48))  # code of the kernels is not to count, nor what is free for use again
    attend.zero_grad()
    ctypes.CDLL(None).malloc_trim(0)
    features = torch.rand(2, 1, 256, side, side).unbind()
    Path("/proc/self/clear_refs").write_text("5")  # the peak restarts here
    before = resident("VmRSS")
    start = time.perf_counter()
    result = run(*features)
    seconds = time.perf_counter() - start
    return (resident("VmHWM") - before - result.nbytes) / 1e6, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of the attention against the plain formula.")
    parser.add_argument("--backward", action="store_true", help="forward and backward, as in training")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="of the feature map")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=ATTENTIONS, help="measure one kind in this process and print the two figures")
    options = parser.parse_args()
    if options.only:
        torch.set_num_threads(options.threads)
        print(*measure(options.only, options.sides[0], options.backward))
        return
    print(f"{'positions':>10}  {'':6}{'peak MB':>9}{'seconds':>9}")
    for side in options.sides:
        for kind in ATTENTIONS:
            command = [
                sys.executable,
                __file__,
                "--only",
                kind,
                "--sides",
                str(side),
                "--threads",
                str(options.threads),
            ]
            command += ["--backward"] * options.backward
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            megabytes, seconds = map(float, output.split())
            print(f"{side:>4} x {side:<4} {kind:>6}{megabytes:9.0f}{seconds:9.2f}", flush=True)


if __name__ == "__main__":
    main()
