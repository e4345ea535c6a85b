"""How fast training pairs are read: out of memory, and by seeking in clips with many key frames and with few.

    python examples/measure_loading.py --data ../shared/faces --size 256 --pairs 300

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
from options import run
from training_clips import Clips, FramePairs, batches


@dataclass(frozen=True)
class Options:
    """What is read."""

    data: str = "../shared/faces"
    size: int = 256
    pairs: int = 300
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


def pairs_per_second(clips: Clips, options: Options) -> float:
    """Of one core's time, whole batches with all that is done to them; every clip was looked into before."""
    clips.check()
    start = time.process_time()
    for _ in batches(FramePairs(clips, seed=options.seed), options.batch, stop=options.pairs):
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
            speed = pairs_per_second(Clips(folder, options.size, cache_gb=0), options)
            print(f"{'by seeking, ' + title:30}{speed:8.0f} pairs/s   {megabytes:6.1f} MB", flush=True)
        clips = Clips(folder, options.size, cache_gb=64)
        for name in clips.names:
            clips.read(name, [0])
        print(f"{'out of memory':30}{pairs_per_second(clips, options):8.0f} pairs/s")


if __name__ == "__main__":
    run(main, Options, __doc__)
