"""Frame rate, latency and memory of `depthaware live`, with the bundled clip in the place of a camera.

    python examples/benchmarks/measure_live.py --minutes 30

The stand-in has 640 x 480 pixels at 25 frames per second, played forwards and backwards. The exit code is 1 if a target
is missed: 24.9 frames per second shown, latencies of 80 ms in the median and 150 ms in 99 % of the frames, and memory
that in the second half is at most 2 % above the first. Linux only.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
from measurement import resident
from PIL import Image

from depthaware import DaGAN, optimize, read_video
from depthaware.inference import Animator
from depthaware.inference.live import LiveView, run_live
from depthaware.inference.optimization import best_dtype
from depthaware.media.camera import Camera, Shot
from depthaware.media.video import write_video
from depthaware.training.options import option, run_recipe

RATE = Fraction(25)


@dataclass(frozen=True)
class Options:
    """Length of the run."""

    minutes: float = option(1, "length of the run")
    record: bool = option(False, "also write an mp4, which is deleted")


def stand_in() -> list[np.ndarray]:
    """The bundled clip in the middle of 640 x 480."""
    frames = read_video(str(files("depthaware") / "assets" / "driving.mp4"))
    squares = (np.asarray(Image.fromarray(frame.image).resize((480, 480))) for frame in frames)
    return [np.pad(square, ((0, 0), (80, 80), (0, 0)), mode="edge") for square in squares]


def endless(images: list[np.ndarray]) -> Iterator[Shot]:
    """Play forwards and backwards, so that there is no cut."""
    start, index = time.monotonic(), 0
    while True:
        due = start + index / 25
        time.sleep(max(due - time.monotonic(), 0))
        turn = index % (2 * len(images))
        yield Shot(images[min(turn, 2 * len(images) - 1 - turn)], index / RATE, due)
        index += 1


class MemoryLog:
    """Takes frames, and keeps the resident memory at each second."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []
        self.count = 0

    def __call__(self, image: np.ndarray, title: str) -> str:
        self.count += 1
        if self.count % 25 == 0:
            self.megabytes.append(resident("VmRSS") / 1e6)
        if self.count % 750 == 0:
            print(f"{self.count} frames, {self.megabytes[-1]:.1f} MB, {title}", flush=True)
        return ""


def main(options: Options) -> None:
    model = DaGAN.from_pretrained("dagan-tiny")
    fast = optimize(model, dtype=best_dtype(next(model.parameters()).device))
    view, log = LiveView([Animator(fast, files("depthaware") / "assets" / "portrait.png")]), MemoryLog()
    camera = Camera("stand-in", RATE, 1 / RATE, endless(stand_in()))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder, "live.mp4")
        also = [stack.enter_context(write_video(path, view.size, RATE))] if options.record else []
        report = run_live(view, camera, log, also=also, seconds=60 * options.minutes)
    half = len(log.megabytes) // 2
    growth = max(log.megabytes[half:]) / max(log.megabytes[:half]) - 1
    print(f"{report}; memory {growth:+.1%} in the second half")
    met = report.rate >= 24.9 and report.median <= 0.08 and report.p99 <= 0.15 and growth <= 0.02
    sys.exit(int(not met))


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
