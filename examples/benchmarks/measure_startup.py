"""Measure CPU seconds from process start to a result: importing PyTorch, --help, a wrong path, the first frame.

    python examples/benchmarks/measure_startup.py

CPU time rather than wall time, so that other processes on the machine matter little. The smallest of several runs. The
face is searched in all 150 driving frames before the first result, but not where they can be read only once.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from depthaware.training.options import option, run_recipe

FIRST_FRAME = """
import torch, time; before = time.process_time()
from importlib.resources import files
from depthaware import DaGAN, animate, optimize, read_image, read_video
media = files("depthaware") / "assets"
source, driving = read_image(str(media / "portrait.png")), read_video(str(media / "driving.mp4"))
next(animate(optimize(DaGAN.from_pretrained("dagan-tiny")), source, {}, batch_size=1))
"""
COMMAND = "import time; before = 0.0\nfrom depthaware.cli.main import main\nmain({})\n"
PROGRAMS = {
    "import torch": "import time; before = 0.0\nimport torch\n",
    "--help": COMMAND.format([]),
    "missing source": COMMAND.format(["animate", "--source", "missing.png"]),
    "first frame, after torch": FIRST_FRAME.format("driving"),
    "the same, driving read once": FIRST_FRAME.format("iter(driving)"),
}
REPORT = "import sys; print(time.process_time() - before, file=sys.stderr)"


@dataclass(frozen=True)
class Options:
    """Effort of the measurement."""

    runs: int = option(5, "processes of each kind, of which the fastest counts")


def cpu_seconds(program: str) -> float:
    """Time of one Python process on one thread, from where it sets `before`."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program + REPORT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stderr.split()[-1])


def main(options: Options) -> None:
    if options.runs < 1:
        raise ValueError(f"--runs: expected at least 1, got {options.runs}")
    assert not Path("missing.png").exists()
    rounds = [{name: cpu_seconds(program) for name, program in PROGRAMS.items()} for _ in range(options.runs)]
    for name in PROGRAMS:
        print(f"{name:28} {min(times[name] for times in rounds):5.2f} s")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
