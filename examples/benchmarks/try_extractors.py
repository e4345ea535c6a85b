"""Run every installed extractor on frames of real faces: how many faces it finds, and how long it takes.

python examples/benchmarks/try_extractors.py --videos FOLDER
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import depthaware
from depthaware.extractors import available, load
from depthaware.media.video import read_video
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Videos, extractors and device."""

    videos: str | None = option(None, "folder of .mp4 files; the bundled video if not given")
    frames: int = option(8, "number of frames of each video, evenly spread")
    kinds: str = option("landmarks,identity,pose,action-units", "kinds of extractors, separated by commas")
    device: str = option("cpu", "device of the networks, such as cpu or cuda")


def spread_frames(path: Path, count: int) -> Tensor:
    """(B, 3, H, W) in [0, 1], at most `count` frames from the first to the last."""
    video = read_video(path)
    wanted = set(np.linspace(0, video.frames - 1, count).round().astype(int))
    frames = np.stack([frame.image for index, frame in enumerate(video) if index in wanted])
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255


def trial(kind: str, name: str, batches: list[Tensor], device: str) -> str:
    """Run one extractor; returns a line of results, or the error."""
    try:
        extract = load(kind, name, device)
    except (ValueError, ImportError) as error:
        return str(error)
    start = _clocks()
    found = torch.cat([extract(batch) for batch in batches])
    wall, processor = (1000 * (now - then) / len(found) for now, then in zip(_clocks(), start, strict=True))
    faces = int(found.flatten(1).isfinite().all(dim=1).sum())
    return (
        f"{faces} faces in {len(found)} frames, {wall:.0f} ms a frame ({processor:.0f} ms of processor): {extract.name}"
    )


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main(options: Options) -> None:
    folder = Path(options.videos) if options.videos else Path(depthaware.__file__).parent / "assets"
    batches = [spread_frames(path, options.frames) for path in sorted(folder.glob("*.mp4"))]
    if not batches:
        raise ValueError(f"--videos {folder}: expected a folder of .mp4 files, found none")
    for kind in options.kinds.split(","):
        for name in available(kind):
            print(f"{kind:12} {name:15} {trial(kind, name, batches, options.device)}", flush=True)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
