"""Peak memory of animating a long video over that of a short one; it should not grow with length.

    python examples/benchmarks/measure_memory.py                          # 10 minutes against 10 seconds
    python examples/benchmarks/measure_memory.py --seconds 60 --short 6   # quicker

The exit code is 1 if the ratio is above the target.
"""

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measurement import write_long_video

from depthaware.training.options import option, run_recipe

TARGET = 1.1

# In a process of its own, since the recorded peak of a process never falls.
ANIMATE = """
import resource, sys
from depthaware.cli.main import main
code = main(["animate", "--quiet", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)"""


@dataclass(frozen=True)
class Options:
    """Lengths of the two videos."""

    seconds: int = option(600, "length of the long video")
    short: int = option(10, "length of the short video, in seconds")
    animate: str = option("", 'flags for depthaware animate, as one word: --animate="--batch-size 4"')


def peak_megabytes(seconds: int, flags: list[str]) -> float:
    """Peak resident memory of `depthaware animate` with a driving video of that length, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        driving, output = Path(folder, "driving.mp4"), Path(folder, "animation.mp4")
        write_long_video(driving, seconds)
        command = [sys.executable, "-c", ANIMATE, "--driving", str(driving), "--output", str(output), *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) / (2**20 if sys.platform == "darwin" else 2**10)


def main(options: Options) -> None:
    peaks = []
    for seconds in (options.short, options.seconds):
        peaks.append(peak_megabytes(seconds, shlex.split(options.animate)))
        print(f"{seconds:5} s of video: peak {peaks[-1]:.0f} MiB", flush=True)
    ratio = peaks[1] / peaks[0]
    print(f"ratio {ratio:.3f} (target: at most {TARGET})")
    sys.exit(int(ratio > TARGET))


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
