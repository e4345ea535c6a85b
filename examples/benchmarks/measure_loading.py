"""Speed of reading training samples: from memory, and by seeking in clips with frequent and with rare key frames.

    python examples/benchmarks/measure_loading.py --data PREPARED --size 256 --pairs 300

Encodes some of the clips anew, once as prepare_clips.py does and once with the defaults of x264, into a folder that is
deleted afterwards. The time is that of one core, so that other load on the machine matters little.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import Dataset

from depthaware.data import Clips, FramePairs, FrameTriples, batches
from depthaware.training.options import option, required, run_recipe


@dataclass(frozen=True)
class Options:
    """Clips and samples that are read."""

    data: str = required("a folder of training clips", "prepare_clips.py makes one, see docs/data.md")
    size: int = option(256, "side of the frames in pixels")
    pairs: int = option(300, "number of pairs, and of triples; a multiple of --batch")
    clips: int = option(16, "number of clips at most")
    batch: int = option(10, "samples in a batch")
    seed: int = option(0, "seed of the samples")


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
    """Print pairs and triples per second of one core's time; the clips are indexed before."""
    clips.check(3)
    pairs, triples = FramePairs(clips, seed=options.seed), FrameTriples(clips, seed=options.seed)
    speeds = [per_second(samples, options) for samples in (pairs, triples)]
    print(f"{title:30}{speeds[0]:8.0f} pairs/s{speeds[1]:8.0f} triples/s", flush=True)


def per_second(samples: Dataset, options: Options) -> float:
    """Samples per second, in batches and with augmentation."""
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
        for title, codec_options in ENCODINGS.items():
            folder = Path(temporary) / title.replace(" ", "")
            folder.mkdir()
            for i, name in enumerate(names):
                encode(folder / f"{i}.mp4", original.read(name, range(original.length(name))), codec_options)
            megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
            report(f"seeking, {title}, {megabytes:.1f} MB", Clips(folder, options.size, cache_gb=0), options)
        clips = Clips(folder, options.size, cache_gb=64)
        for name in clips.names:
            clips.read(name, [0])
        report("from memory", clips, options)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
