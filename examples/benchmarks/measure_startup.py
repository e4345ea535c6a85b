"""Measure CPU seconds from process start to a result: importing PyTorch, --help, a wrong path, the first frame.

    python examples/benchmarks/measure_startup.py

CPU time rather than wall time, so that other processes on the machine matter little. The smallest of several runs.
"""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from depthaware.training.options import option, run_recipe

CLI = ["-m", "depthaware"]
FIRST_FRAME = """
from importlib.resources import files
from depthaware import DaGAN, animate, optimize, read_image, read_video
media = files("depthaware") / "assets"
source, driving = read_image(str(media / "portrait.png")), read_video(str(media / "driving.mp4"))
next(animate(optimize(DaGAN.from_pretrained("dagan-tiny")), source, driving, batch_size=1))
"""
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "--help": [*CLI, "--help"],
    "missing source": [*CLI, "animate", "--source", "missing.png"],
    "first frame": ["-c", FIRST_FRAME],
}


@dataclass(frozen=True)
class Options:
    """Effort of the measurement."""

    runs: int = option(5, "processes of each kind, of which the fastest counts")


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one Python process on one thread."""

    def children() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = children()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    return children() - before


def main(options: Options) -> None:
    if options.runs < 1:
        raise ValueError(f"--runs: expected at least 1, got {options.runs}")
    assert not Path("missing.png").exists()
    rounds = [{name: cpu_seconds(command) for name, command in COMMANDS.items()} for _ in range(options.runs)]
    seconds = {name: min(times[name] for times in rounds) for name in COMMANDS}
    for name, value in seconds.items():
        print(f"{name:16} {value:5.2f} s")
    print(f"{'beyond torch':16} {seconds['first frame'] - seconds['import torch']:5.2f} s")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
