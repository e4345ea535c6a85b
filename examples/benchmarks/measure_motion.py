"""Measure what a motion template saves, and how near its frames are to those of the video: figures of docs/animate.md.

    python examples/benchmarks/measure_motion.py

Animates the bundled portrait by the bundled clip and by its template, in float32; prints seconds, differences and size.
"""

import time
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from depthaware import DaGAN, animate, optimize, read_video
from depthaware.inference import MotionTemplate, record_motion

MEDIA = files("depthaware") / "assets"


def main() -> None:
    model, video = optimize(DaGAN.from_pretrained("dagan-tiny")), read_video(str(MEDIA / "driving.mp4"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        record_motion(model, video).save(path)
        size, template = path.stat().st_size, MotionTemplate.load(path)
    results, seconds = [], []
    for driving in (video, template):
        start = time.monotonic()
        frames = animate(model, str(MEDIA / "portrait.png"), driving)
        results.append(np.stack([frame.image for frame in frames]).astype(int))
        seconds.append(time.monotonic() - start)
    apart = abs(results[0] - results[1])
    print(f"video {seconds[0]:.1f} s, template {seconds[1]:.1f} s, ratio {seconds[0] / seconds[1]:.2f}")
    print(f"at most {apart.max()} of 255 apart, {100 * (apart > 0).mean():.4f} % of values")
    print(f"{size / template.frames * 90_000 / 1e6:.1f} MB an hour at 25 frames a second")


if __name__ == "__main__":
    main()
