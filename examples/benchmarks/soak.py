"""Memory while one long video is animated; it should not grow, and no thread or temporary file should be left.

    python examples/benchmarks/soak.py [--frames 20000]

The network is random and as small as it gets, so that nearly all of the work is reading, passing on and writing. The
exit code is 1 if the second half of the run ever held more than 5 % more memory than the first. Linux only.
"""

import argparse
import math
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from measure_attention import resident
from measure_memory import write_driver

from depthaware import DaGAN, read_video
from depthaware.inference import animate_to_file

TARGET = 1.05


def small_model() -> DaGAN:
    """Random weights at 64 x 64."""
    torch.manual_seed(0)
    return DaGAN(
        image_size=64,
        num_keypoints=5,
        depth_encoder="test_resnet.r160_in1k",
        depth_channels=[4, 4, 8, 8, 8],
        detector_block_expansion=4,
        motion_block_expansion=4,
        hourglass_max_features=16,
        num_hourglass_blocks=2,
        generator_block_expansion=4,
        generator_max_features=16,
        num_bottleneck_blocks=1,
    ).eval()


class Watch:
    """Called with every frame; prints and keeps the memory at 20 points in time."""

    def __init__(self, frames: int) -> None:
        self.every, self.start, self.seen = math.ceil(frames / 20), time.monotonic(), []
        print("| frames | seconds | MiB | threads |\n|---|---|---|---|")

    def __call__(self, done: int, total: int) -> None:
        if done % self.every == 0 or done == total:
            self.seen.append(resident("VmRSS") / 2**20)
            seconds, threads = time.monotonic() - self.start, threading.active_count()
            print(f"| {done} | {seconds:.0f} | {self.seen[-1]:.1f} | {threads} |", flush=True)


def main() -> int:
    """Print memory over time; the exit code is 1 if it grows or something is left behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20000, help="at 25 a second (default: %(default)s)")
    frames = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as folder:
        driver, output = Path(folder, "driver.mp4"), Path(folder, "animation.mp4")
        write_driver(driver, math.ceil(frames / 25))
        watch, video = Watch(frames), read_video(driver)
        written = animate_to_file(small_model(), next(iter(video)).image, video, output, progress=watch)
        left = sorted({path.name for path in Path(folder).iterdir()} - {driver.name, output.name})
    half = max(len(watch.seen) // 2, 1)
    ratio = max(watch.seen[half:]) / max(watch.seen[:half])
    threads = threading.active_count() - 1
    print(f"{written.frames} frames, second half {ratio:.3f} of the first (target: at most {TARGET})")
    print(f"left behind: {threads} threads, {len(left)} files")
    return int(ratio > TARGET or threads > 0 or len(left) > 0)


if __name__ == "__main__":
    sys.exit(main())
