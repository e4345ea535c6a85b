"""Trembling of a model's key points before and after the One-Euro filter, beside a plain average of equal delay.

    python examples/benchmarks/measure_smoothing.py --data CLIPS

Clips are 25 frames a second, each a face crop. The size of a face is the square root of the area of the key points'
hull. A plain average is the same filter with beta 0; its cutoff is chosen so that its mean delay is that of the row.
"""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from depthaware import DaGAN, Keypoints, read_video
from depthaware.inference.smoothing import KeypointSmoother
from depthaware.keypoints import hull_area
from depthaware.media.image import fit_square
from depthaware.metrics import Average, delay, tremor
from depthaware.training.options import option, required, run_recipe

SETTINGS = [(0.5, 2.0), (1.0, 1.0), (1.0, 5.0), (1.0, 10.0), (2.0, 5.0), (2.0, 10.0), (4.0, 10.0)]


@dataclass(frozen=True)
class Options:
    """Clips, and the model whose key points are measured."""

    data: str = required("a folder of mp4 clips of one scene and one face each", "face crops of any data set will do")
    weights: str = option("dagan-tiny", "bundled name, folder or Hub id")
    every: int = option(1, "measure every so many of the clips")
    frames: int = option(75, "frames of each clip")


@torch.inference_mode()
def detect(model: DaGAN, path: Path, frames: int) -> torch.Tensor:
    """Key points of a clip, (T, N, 2)."""
    images = [fit_square(frame.image, model.image_size) for frame in islice(read_video(path), frames)]
    return torch.cat([model.detect_keypoints(torch.cat(images[i : i + 8])).value for i in range(0, len(images), 8)])


def measure(clips: list[torch.Tensor], min_cutoff: float, beta: float) -> tuple[float, float]:
    """Mean tremor, in thousandths of the face, and mean delay in frames; a cutoff of infinity is no filter."""
    shaking, late = Average(), Average()
    for points in clips:
        size = float(hull_area(points).sqrt().mean())
        times = [index / 25 for index in range(len(points))]
        after = points
        if math.isfinite(min_cutoff):
            after = KeypointSmoother(min_cutoff=min_cutoff, beta=beta)(Keypoints(points), times).value
        shaking.update(1000 * tremor(after, size))
        late.update([delay(after, points)])
    return shaking.compute(), late.compute()


def plain_cutoff(clips: list[torch.Tensor], frames: float) -> float:
    """Cutoff of the plain average that delays by so many frames, by bisection; the delay falls with the cutoff."""
    low, high = 0.2, 50.0
    for _ in range(9):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if measure(clips, middle, 0)[1] > frames else (low, middle)
    return math.sqrt(low * high)


def main(options: Options) -> None:
    """Measure and print a table."""
    model = DaGAN.from_pretrained(options.weights)
    paths = sorted(Path(options.data).rglob("*.mp4"))[options.every - 1 :: options.every]
    clips = [detect(model, path, options.frames) for path in paths]
    before, _ = measure(clips, math.inf, 0)
    print(f"{len(clips)} clips, {sum(map(len, clips))} frames, tremor before {before:.2f} thousandths of the face\n")
    print("| min_cutoff | beta | delay, frames | tremor | tremor of a plain average of that delay |")
    print("|---|---|---|---|---|")
    for min_cutoff, beta in SETTINGS:
        after, late = measure(clips, min_cutoff, beta)
        plain, _ = measure(clips, plain_cutoff(clips, late), 0)
        print(f"| {min_cutoff} | {beta} | {late:.2f} | {after:.2f} | {plain:.2f} |", flush=True)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
