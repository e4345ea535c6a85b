"""The fastest way to run a model on this CPU, chosen by measuring a few frames."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from ..dagan import DaGAN
from ..inference.optimization import best_dtype, optimize
from ..inference.options import SupportsAnimation
from ..media.image import fit_square
from ..media.still import read_image
from ..media.video import read_video
from .facts import read_facts
from .runtimes import RUNS, ExportedDaGAN, follow

LEAST_PSNR = 40.0
"""Of frames against those of PyTorch in float32, in dB; what draws worse is not chosen."""
_ROUNDS = 3


@torch.inference_mode()
def choose_fastest(
    model: DaGAN,
    folders: Sequence[str | Path] = (),
    *,
    batch_size: int = 8,
    notes: Callable[[str], None] = lambda line: None,
) -> SupportsAnimation:
    """Animate a few bundled frames in every way that is installed, and return the fastest that draws the same.

    Those are PyTorch and each export on ONNX Runtime and OpenVINO, in float32 and, where the processor has it, in
    bfloat16. They take turns, so that other load affects all of them.

    Args:
        model: on the CPU.
        folders: exports of that model; those that draw something else are passed over like what is too coarse.
        batch_size: frames at a time.
        notes: called with one line that names the choice, its speed and its PSNR.

    Raises:
        ValueError: if a folder is no export, or of images of another size.
    """
    source, driving = _sample(model.image_size, batch_size)
    candidates: dict[str, SupportsAnimation] = {"torch float32": optimize(model)}
    if _has_bfloat16():
        candidates["torch bfloat16"] = optimize(model, dtype=torch.bfloat16)
    for folder in folders:
        candidates |= _exports(folder, model.image_size)
    exact = follow(candidates["torch float32"], source, driving)[0]
    quality: dict[str, float] = {}
    times: dict[str, float] = {}
    for name, candidate in list(candidates.items()):  # and warm up
        error = (follow(candidate, source, driving)[0] - exact).square().mean().clamp_min(1e-15)
        quality[name] = -10 * error.log10().item()
        if not quality[name] >= LEAST_PSNR:
            del candidates[name]
    encoded = {name: candidate.encode_source(source) for name, candidate in candidates.items()}
    for _ in range(_ROUNDS):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate.drive(encoded[name], candidate.detect_keypoints(driving), dtype=torch.float32)
            times[name] = min(times.get(name, float("inf")), time.perf_counter() - start)
    best = min(times, key=lambda name: times[name])
    rate = {name: len(driving) / seconds for name, seconds in times.items()}
    like = "the reference" if best == "torch float32" else f"{quality[best]:.0f} dB of float32"
    others = f", of {len(quality)} ways, {len(quality) - len(times)} of them below {LEAST_PSNR:.0f} dB"
    notes(f"backend: {best}, {rate[best]:.1f} frames/s, {like}{others}")
    return candidates[best]


def _has_bfloat16() -> bool:
    return best_dtype(torch.device("cpu")) == torch.bfloat16


def _exports(folder: str | Path, size: int) -> dict[str, SupportsAnimation]:
    """The ways to run an export; those whose package is missing are left out."""
    facts = read_facts(Path(folder))
    if facts["format"] == "torch":
        raise ValueError(f"{folder}: expected an export in the format onnx or openvino, got torch")
    if facts["size"] != size:
        raise ValueError(f"{folder}: is for images of {facts['size']} pixels, expected {size}")
    low, found = _has_bfloat16(), dict[str, SupportsAnimation]()
    for runtime, formats in RUNS.items():
        if facts["format"] in formats:
            with suppress(ImportError):
                found[f"{runtime} {folder}"] = ExportedDaGAN(folder, runtime=runtime)
                if runtime == "openvino" and low:
                    found[f"openvino bfloat16 {folder}"] = ExportedDaGAN(folder, runtime=runtime, dtype=torch.bfloat16)
    return found


def _sample(size: int, count: int) -> tuple[Tensor, Tensor]:
    """The bundled portrait, and frames spread over the bundled video."""
    media = files("depthaware") / "assets"
    video = read_video(str(media / "driving.mp4"))
    step = max(video.frames // count, 1)
    frames = [fit_square(frame.image, size) for index, frame in enumerate(video) if index % step == 0]
    return fit_square(read_image(str(media / "portrait.png")), size), torch.cat(frames[:count])
