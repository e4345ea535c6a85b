"""How fast training samples are read: out of memory, and by seeking in clips with many key frames and with few.

    python examples/benchmarks/measure_loading.py --data ../shared/faces --size 256 --pairs 300

Encodes some of the clips afresh, once as prepare_clips.py does and once as x264 does by itself, into a folder that is
deleted afterwards. What is measured is time of one core, so that other work on the machine matters little.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import Dataset

from depthaware.data.pairs import Clips, FramePairs, FrameTriples, batches
from depthaware.training.options import run


@dataclass(frozen=True)
class Options:
    """What is read."""

    data: str = "../shared/faces"
    size: int = 256
    pairs: int = 300  # and as many triples
    clips: int = 16
    batch: int = 10
    seed: int = 0


ENCODINGS = {
    "-g 12 -bf 0": {"g": "12", "bf": "0", "crf": "18"},
    "x264's default": {"crf": "18"},
}


def encode(path: Path, frames: np.ndarray, options: dict[str, str]) -> None:
    """Write frames (T, H, W, 3) at 25 fps with these options of x264."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for image in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


def report(title: str, clips: Clips, options: Options) -> None:
    """Print pairs and triples per second of one core's time; every clip was looked into before."""
    clips.check(3)
    pairs, triples = FramePairs(clips, seed=options.seed), FrameTriples(clips, seed=options.seed)
    speeds = [per_second(samples, options) for samples in (pairs, triples)]
    print(f"{title:30}{speeds[0]:8.0f} pairs/s{speeds[1]:8.0f} triples/s", flush=True)


def per_second(samples: Dataset, options: Options) -> float:
    """Whole batches, with all that is done to them."""
    start = time.process_time()
    for _ in batches(samples, options.batch, stop=options.pairs):
        pass
    return options.pairs / (time.process_time() - start)


def main(options: Options) -> None:
    if options.pairs < 1 or options.pairs % options.batch:
        raise ValueError(f"pairs: expected a multiple of {options.batch}, got {options.pairs}")
    torch.set_num_threads(1)
    original = Clips(options.data, options.size, cache_gb=0)
    names = original.names[:: -(-len(original.names) // options.clips)]
    print(f"{options.pairs} pairs of {len(names)} clips of {options.data} at {options.size} pixels, by one core")
    with tempfile.TemporaryDirectory() as temporary:
        for title, how in ENCODINGS.items():
            folder = Path(temporary) / title.replace(" ", "")
            folder.mkdir()
            for i, name in enumerate(names):
                encode(folder / f"{i}.mp4", original.read(name, range(original.length(name))), how)
            megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
            report(f"seeking, {title}, {megabytes:.1f} MB", Clips(folder, options.size, cache_gb=0), options)
        clips = Clips(folder, options.size, cache_gb=64)
        for name in clips.names:
            clips.read(name, [0])
        report("out of memory", clips, options)


if __name__ == "__main__":
    run(main, Options, __doc__)
