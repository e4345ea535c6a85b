"""Compare one `depthaware animate` for many results with a command for each of them.

    python examples/benchmarks/measure_batch.py

Sources are the bundled portrait in other colors, driving videos pieces of the bundled clip. The single commands are one
for each source with another driving video; the time of all pairs is taken as that many times as long.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from depthaware import read_image, read_video
from depthaware.app.studio import CLIP, PORTRAIT
from depthaware.media.image import write_image
from depthaware.media.video import Frame, write_video
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Size of the batch."""

    count: int = option(5, "sources, and as many driving videos")
    frames: int = option(50, "of each driving video, at most 150")


def write_inputs(folder: Path, options: Options) -> None:
    photo = read_image(PORTRAIT)
    for name in ("a", "b"):
        (folder / name).mkdir()
    for index in range(options.count):
        write_image(folder / f"a/p{index}.png", np.roll(photo, index, axis=2) // (1 + index // 3))
        with write_video(folder / f"b/d{index}.mp4", (256, 256), Fraction(25)) as write:
            for number, frame in enumerate(islice(read_video(CLIP), options.frames)):
                write(Frame(np.roll(frame.image, index, axis=1), Fraction(number, 25)))


def seconds(folder: Path, *arguments: str) -> np.ndarray:
    """Wall and CPU time of a command."""
    command = [sys.executable, "-m", "depthaware", "animate", "--quiet", *arguments]
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return np.array([time.perf_counter() - start, cpu])


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, options)
        alone = np.zeros(2)
        for i in range(options.count):
            alone += seconds(folder, "-s", f"a/p{i}.png", "-d", f"b/d{i}.mp4", "-o", f"{i}.mp4")
        batch = seconds(folder, "-s", "a", "-d", "b", "-o", "out")
    alone *= options.count
    for kind, single, many in zip(("wall", "CPU"), alone, batch, strict=True):
        print(f"{kind:4} {single:6.1f} s alone, {many:6.1f} s at once, ratio {many / single:.2f}")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
