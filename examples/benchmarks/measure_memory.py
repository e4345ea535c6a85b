"""Peak memory of animating a long video over that of a short one; it should not grow with length.

python examples/benchmarks/measure_memory.py                          # 10 minutes against 10 seconds
python examples/benchmarks/measure_memory.py --seconds 60 --short 6   # quicker
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import numpy as np

TARGET = 1.1

# In a process of its own, since a process remembers its peak for ever.
ANIMATE = """
import resource, sys
from depthaware.cli.main import main
code = main(["animate", "--quiet", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)"""


def write_driver(path: Path, seconds: int) -> None:
    """The bundled clip, over and over at 25 frames a second, with a tone."""
    with av.open(str(files("depthaware") / "assets" / "driving.mp4")) as clip:
        template = clip.streams.video[0]
        packets = [packet for packet in clip.demux(template) if packet.dts is not None]
        step = round(Fraction(1, 25) / template.time_base)
        with av.open(str(path), "w") as output:
            video = output.add_stream_from_template(template)
            sound = output.add_stream("aac", rate=48000, layout="mono")
            times = [(packet.pts, packet.dts) for packet in packets]
            for i in range(seconds * 25):
                loop, k = divmod(i, len(packets))
                packet, late = packets[k], loop * len(packets) * step
                packet.pts, packet.dts, packet.stream = times[k][0] + late, times[k][1] + late, video
                output.mux(packet)
                output.mux(sound.encode(tone(i)))
            output.mux(sound.encode(None))


def tone(index: int) -> av.AudioFrame:
    """One 25th of a second."""
    samples = np.sin(np.arange(1920) * 0.06).astype(np.float32)[None] / 8
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, index * 1920, Fraction(1, 48000)
    return frame


def peak_megabytes(seconds: int, options: list[str]) -> float:
    """Peak resident memory of `depthaware animate` with a driver of that length."""
    with tempfile.TemporaryDirectory() as folder:
        driver, output = Path(folder, "driver.mp4"), Path(folder, "animation.mp4")
        write_driver(driver, seconds)
        command = [sys.executable, "-c", ANIMATE, "--driving", str(driver), "--output", str(output), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    """Print both peaks and their ratio; the exit code is 1 if it is above the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Others go to `depthaware animate`.")
    parser.add_argument("--seconds", type=int, default=600, help="of the long video (default: %(default)s)")
    parser.add_argument("--short", type=int, default=10, help="seconds of the short video (default: %(default)s)")
    args, options = parser.parse_known_args()
    peaks = []
    for seconds in (args.short, args.seconds):
        peaks.append(peak_megabytes(seconds, options))
        print(f"{seconds:5} s of video: peak {peaks[-1]:.0f} MiB", flush=True)
    ratio = peaks[1] / peaks[0]
    print(f"ratio {ratio:.3f} (target: at most {TARGET})")
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
