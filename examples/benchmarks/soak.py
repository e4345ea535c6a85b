"""Memory while one long video is animated; it should not grow, and no thread or temporary file should be left.

    python examples/benchmarks/soak.py --frames 20000

The network is random and tiny, so that nearly all of the work is reading, passing on and writing. The exit code is 1 if
the second half of the run ever held more than 5 % more memory than the first. Linux only.
"""

import math
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from measurement import resident, write_long_video

from depthaware import DaGAN, read_video
from depthaware.inference import animate_to_file
from depthaware.training.options import option, run_recipe
from depthaware.training.stage2 import new_model

TARGET = 1.05


@dataclass(frozen=True)
class Options:
    """Length of the run."""

    frames: int = option(20000, "length of the video, at 25 frames per second")


def small_model() -> DaGAN:
    """Random weights at 64 x 64."""
    torch.manual_seed(0)
    return new_model("mini", size=64, motion_size=16).eval()


class MemoryLog:
    """Progress callback that prints and keeps the resident memory at 20 points in time."""

    def __init__(self, frames: int) -> None:
        self.every, self.start, self.mebibytes = math.ceil(frames / 20), time.monotonic(), []
        print("| frames | seconds | MiB | threads |\n|---|---|---|---|")

    def __call__(self, done: int, total: int) -> None:
        if done % self.every == 0 or done == total:
            self.mebibytes.append(resident("VmRSS") / 2**20)
            seconds, threads = time.monotonic() - self.start, threading.active_count()
            print(f"| {done} | {seconds:.0f} | {self.mebibytes[-1]:.1f} | {threads} |", flush=True)


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        driving, output = Path(folder, "driving.mp4"), Path(folder, "animation.mp4")
        write_long_video(driving, math.ceil(options.frames / 25))
        log, video = MemoryLog(options.frames), read_video(driving)
        written = animate_to_file(small_model(), next(iter(video)).image, video, output, progress=log)
        left = sorted({path.name for path in Path(folder).iterdir()} - {driving.name, output.name})
    half = max(len(log.mebibytes) // 2, 1)
    ratio = max(log.mebibytes[half:]) / max(log.mebibytes[:half])
    threads = threading.active_count() - 1
    print(f"{written.frames} frames, second half {ratio:.3f} of the first (target: at most {TARGET})")
    print(f"left behind: {threads} threads, {len(left)} files")
    sys.exit(int(ratio > TARGET or threads > 0 or len(left) > 0))


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
