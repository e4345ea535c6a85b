"""Frames per second and peak memory of images larger than those that the weights were trained on.

    python examples/benchmarks/measure_sizes.py --size 512
    python examples/benchmarks/measure_sizes.py --size 1024 --model DaGAN --dtype float32 --frames 1

Key points, depth and motion stay those of the trained size, see `enlarge`; that of the full-size network, whose weights
are random, is the size itself. Memory is the peak of the whole process, Python and PyTorch included. Linux only.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from benchmark import full_size, sample_images
from measurement import resident

from depthaware import DaGAN, optimize
from depthaware.inference.resolution import enlarge
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Network, size and number of frames."""

    size: int = option(512, "side of the images in pixels")
    model: Literal["dagan-tiny", "DaGAN"] = option("dagan-tiny", "DaGAN is the full-size network with random weights")
    dtype: Literal["float32", "bfloat16"] = option("bfloat16", "of `optimize`")
    frames: int = option(8, "driven, one at a time; the first is not timed unless it is the only one")
    threads: int = option(2, "threads of the CPU")


@torch.inference_mode()
def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    model = full_size(options.size) if options.model == "DaGAN" else DaGAN.from_pretrained(options.model)
    fast = enlarge(optimize(model, dtype=getattr(torch, options.dtype)), options.size)
    del model
    source, driving = sample_images(options.size, options.frames, "cpu")
    encoded = fast.encode_source(source)
    times = []
    for image in driving.split(1):
        wall, cpu = time.perf_counter(), time.process_time()
        fast.drive(encoded, fast.detect_keypoints(image))
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = (sorted(column)[(len(column) - 1) // 2] for column in zip(*(times[1:] or times), strict=True))
    print(f"{options.model}, {options.size} px, {options.dtype}, {options.threads} threads: {1 / wall:.2f} frames/s")
    print(f"{cpu:.2f} s of CPU a frame, peak of the process {resident('VmHWM') / 1e6:.0f} MB")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
