"""Shared by the benchmarks: times, memory of a process, and a long video."""

import ctypes
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import torch


def seconds(run: Callable[[], object], device: str) -> float:
    """Duration of a call; the queue of a GPU is emptied before and after."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def release_memory() -> None:
    """Return freed memory to the system, so that it does not count as resident; Linux only."""
    ctypes.CDLL(None).malloc_trim(0)


def restart_peak() -> int:
    """Let VmHWM start anew; returns VmRSS in bytes. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak_megabytes(run: Callable[[], object], device: str) -> float:
    """Peak memory of a call over the memory before; on a CPU resident memory, Linux only."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    release_memory()
    before = restart_peak()
    run()
    return (resident("VmHWM") - before) / 1e6


def write_long_video(path: Path, seconds: int) -> None:
    """Repeat the bundled clip at 25 frames per second, with a tone, without encoding it again."""
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
                output.mux(sound.encode(_tone(i)))
            output.mux(sound.encode(None))


def _tone(index: int) -> av.AudioFrame:
    """One 25th of a second."""
    samples = np.sin(np.arange(1920) * 0.06).astype(np.float32)[None] / 8
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, index * 1920, Fraction(1, 48000)
    return frame
