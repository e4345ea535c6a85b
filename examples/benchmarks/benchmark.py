"""Speed of DaGAN, of every part and of the whole, against a path that does the work of the published inference loop.

    python examples/benchmarks/benchmark.py --quick                       # the table in under 3 minutes on two cores
    python examples/benchmarks/benchmark.py --output docs/benchmarks/cpu.json
    python examples/benchmarks/benchmark.py --device cuda --output docs/benchmarks/gpu.json
    python examples/benchmarks/benchmark.py --peers fomm=FOLDER,liveportrait=FOLDER --output docs/benchmarks/peers.json

Variants take turns, so that other load on the machine affects all of them; every figure is a median. The full-size
network has random weights, which does not change its speed. `benchmark_tables.py` puts the JSON into the page
docs/benchmarks.md.
"""

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from benchmark_training import training_rates
from measurement import peak_megabytes, seconds
from peers import compared, parsed
from reference_path import Reference
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from depthaware import DaGAN, optimize, read_image, read_video
from depthaware.evaluation.machine import describe_machine
from depthaware.export.exporter import export
from depthaware.export.runtimes import ExportedDaGAN
from depthaware.inference import animate_to_file
from depthaware.inference.optimization import best_dtype, fold_batch_norms, use_phases
from depthaware.media.image import fit_square
from depthaware.media.video import write_video
from depthaware.training.options import option, run_recipe

MEDIA = files("depthaware") / "assets"
Table = dict[str, dict[str, float]]
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Options:
    """Device, sizes and repetitions."""

    output: str | None = option(None, "JSON file for the figures; nothing is written if not given")
    device: str = option("cpu", "device that is timed, such as cpu or cuda")
    sizes: str = option("256,512", "image sizes of the full-size network, separated by commas; dagan-tiny is for 256")
    rounds: int = option(5, "repetitions of every measurement")
    threads: int = option(2, "threads of the CPU")
    compile: bool = option(False, "time compiled networks on a CPU too; on a GPU they always are")
    quick: bool = option(False, "256 pixels, 2 rounds, no exports, no training")
    peers: str = option("", "compare with networks of checkouts and with nothing else: fomm=FOLDER,liveportrait=FOLDER")


def in_batches(model: DaGAN, source_image: Tensor, batch: int) -> Run:
    """Drive in batches as `animate` does; the source is encoded here, which is not part of the time of a frame."""
    source = model.encode_source(source_image)

    def run(driving: Tensor) -> Tensor:
        return torch.cat([model.drive(source, model.detect_keypoints(images)) for images in driving.split(batch)])

    return run


def variants(model: DaGAN, source: Tensor, batch: int, compile: bool) -> dict[str, Run]:
    """The reference, each optimization added to those before it, and lower precision."""
    folded = copy.deepcopy(model).requires_grad_(False)
    fold_batch_norms(folded)
    phases = copy.deepcopy(folded)
    use_phases(phases)
    fast, low = optimize(model), optimize(model, dtype=torch.bfloat16)
    found = {
        "reference": Reference(model, source),
        "source once, attention in chunks": in_batches(model, source, 1),
        "+ batch norms folded": in_batches(folded, source, 1),
        "+ up-sampling in phases": in_batches(phases, source, 1),
        "+ channels last = float32": in_batches(fast, source, 1),
        f"float32, batch {batch}": in_batches(fast, source, batch),
        "bfloat16": in_batches(low, source, 1),
        f"bfloat16, batch {batch}": in_batches(low, source, batch),
    }
    if compile:
        for dtype in (torch.float32, torch.bfloat16, *([torch.float16] if source.is_cuda else [])):
            name = f"{str(dtype).removeprefix('torch.')}, batch {batch}, compiled"
            found[name] = in_batches(optimize(model, dtype=dtype, compile=True), source, batch)
    return found


def exported(model: DaGAN, source: Tensor, frames: Tensor, batch: int) -> dict[str, Run]:
    """Exports in float32 and in int8, calibrated on half of these frames, none of which is timed."""
    onnx, openvino = exports(model, source, frames, "onnx"), exports(model, source, frames, "openvino")
    return {f"{name}, batch {batch}": in_batches(graphs, source, batch) for name, graphs in (onnx | openvino).items()}


def exports(model: DaGAN, source: Tensor, frames: Tensor, format: Literal["onnx", "openvino"]) -> dict[str, Any]:
    """The ways to run an export; a format whose package is missing has none."""
    found: dict[str, Any] = {}
    for int8 in (False, True):
        with suppress(ImportError), tempfile.TemporaryDirectory() as folder:
            print(export(model, Path(folder, "graphs"), source, frames, format=format, int8=int8), file=sys.stderr)
            load = partial(ExportedDaGAN, Path(folder, "graphs"))  # keeps the graphs in memory
            name = f"{'ONNX Runtime' if format == 'onnx' else 'OpenVINO'}, {'int8' if int8 else 'float32'}"
            found[name] = load()
            if format == "openvino":
                found[f"{name} and bfloat16" if int8 else "OpenVINO, bfloat16"] = load(dtype=torch.bfloat16)
    return found


def full_size(size: int) -> DaGAN:
    """The paper's network, with random weights and norms that are not the identity."""
    torch.manual_seed(0)
    model = DaGAN(image_size=size).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    assert model.generator.attention is not None
    nn.init.constant_(model.generator.attention.gate, 0.5)
    return model


def time_variants(model: DaGAN, size: int, options: Options, batch: int) -> Table:
    """Milliseconds per frame, speed relative to the reference, difference from it and peak memory of every variant."""
    source, driving = sample_images(size, batch, options.device)
    gpu = options.device.startswith("cuda")
    runs = variants(model.to(options.device), source, batch, gpu or options.compile)
    if size == 256 and not options.quick and not gpu:
        runs |= exported(model, source, sample_images(size, 11, options.device)[1][1:], batch)
    frames = {name: driving if ", batch" in name else driving[:2] for name in runs}
    exact = runs["reference"](driving[:2])
    table: Table = {}
    for name, drive in runs.items():
        with FlopCounterMode(display=False) as counter:  # warms up, too
            drive(frames[name])
        difference = (drive(frames[name])[:2] - exact).abs()  # outside of the counter, which changes rounding
        psnr = -10 * difference.square().mean().clamp_min(1e-20).log10().item()
        peak = peak_megabytes(lambda drive=drive, name=name: drive(frames[name]), options.device)
        gigaflop = counter.get_total_flops() / 1e9 / len(frames[name])  # those of ONNX Runtime are not counted
        row = {"gigaflop": gigaflop, "difference": difference.max().item(), "psnr": psnr, "megabytes": peak}
        table[name] = row
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, drive in runs.items():
            times[name].append(
                seconds(lambda drive=drive, name=name: drive(frames[name]), options.device) / len(frames[name])
            )
    for name, row in table.items():
        row["milliseconds"] = 1e3 * statistics.median(times[name])
        row["ratio"] = statistics.median(a / b for a, b in zip(times["reference"], times[name], strict=True))
    return table


def sample_images(size: int, count: int, device: str) -> tuple[Tensor, Tensor]:
    """The bundled portrait, and frames of the bundled clip."""
    video = list(read_video(str(MEDIA / "driving.mp4")))[:: 150 // count][:count]
    source = fit_square(read_image(str(MEDIA / "portrait.png")), size)
    return source.to(device), torch.cat([fit_square(frame.image, size) for frame in video]).to(device)


def time_parts(model: DaGAN, size: int, options: Options, batch: int, dtype: torch.dtype) -> Table:
    """Milliseconds and arithmetic per frame of every part of the optimized model, and the share of the peak rate."""
    fast = optimize(model, dtype=dtype).model
    source, driving = sample_images(size, batch, options.device)
    encoded = fast.encode_source(source)
    kp = fast.detect_keypoints(driving)
    motion = fast.estimate_motion(encoded, kp)
    feature = fast.generator._warp(encoded.features.appearance, motion)
    depth_net, generator, features = fast.depth_net, fast.generator, encoded.features
    assert depth_net is not None and generator.attention is not None and features.depth is not None
    disparity = depth_net(driving, num_scales=1)[0]
    parts: dict[str, Callable[[], object]] = {
        "depth": lambda: depth_net(driving, num_scales=1),
        "key points": lambda: fast.kp_detector(driving, disparity),
        "dense motion": lambda: fast.estimate_motion(encoded, kp),
        "attention": lambda: generator.attention(features.depth, feature),  # type: ignore[misc]
        "decoder": lambda: generator.decoder(feature, driving),
        "all of a frame": lambda: fast.drive(encoded, fast.detect_keypoints(driving)),
        "source, once": lambda: fast.encode_source(source),
    }
    rate = matrix_rate(dtype, options.device)
    table: Table = {}
    for name, work in parts.items():
        count = 1 if name == "source, once" else batch
        with FlopCounterMode(display=False) as counter:
            work()
        gigaflop = counter.get_total_flops() / 1e9 / count
        duration = statistics.median(seconds(work, options.device) for _ in range(options.rounds)) / count
        table[name] = {"milliseconds": 1e3 * duration, "gigaflop": gigaflop, "share": gigaflop / duration / rate}
    return table


def matrix_rate(dtype: torch.dtype, device: str) -> float:
    """Peak rate in gigaflop per second: of a large matrix product, on a CPU of a large convolution, which is faster."""
    if device.startswith("cuda"):
        a, b = torch.randn(2, 8192, 8192, device=device, dtype=dtype).unbind()
        return 2 * 8.192**3 / min(seconds(lambda: a @ b, device) for _ in range(20))
    conv = nn.Conv2d(256, 256, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(4, 256, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    return 2 * 4 * 9 * 256**2 * 64**2 / 1e9 / min(seconds(lambda: conv(x), device) for _ in range(10))


def time_files(options: Options) -> Table:
    """Frames per second of dagan-tiny from file to file, and of each of its three stages alone."""
    model, path = DaGAN.from_pretrained("dagan-tiny").to(options.device), str(MEDIA / "driving.mp4")
    source, video = read_image(str(MEDIA / "portrait.png")), read_video(path)
    frames = list(video)
    table: Table = {}
    dtypes = [best_dtype(torch.device(options.device))] if options.quick else [torch.float32, torch.bfloat16]
    models: dict[str, Any] = {str(dtype).removeprefix("torch."): optimize(model, dtype=dtype) for dtype in dtypes}
    if not options.quick and options.device == "cpu":
        models |= exports(model, *sample_images(256, 32, "cpu"), "openvino")
    for name, fast in models.items():
        images = torch.cat([fit_square(image, 256) for image in (source, *(frame.image for frame in frames))])
        encoded, batches = fast.encode_source(images[:1].to(options.device)), images[1:].to(options.device).split(8)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "animation.mp4")

            def encode(output: Path = output) -> None:
                with write_video(output, (256, 256), video.rate, video.time_base) as write:
                    for frame in frames:
                        write(frame)

            stages: dict[str, Callable[[], object]] = {
                "file to file": lambda: animate_to_file(fast, source, video, output),  # noqa: B023
                "network alone": lambda: [fast.drive(encoded, fast.detect_keypoints(b)) for b in batches],  # noqa: B023
                "decoding alone": lambda: [fit_square(frame.image, 256) for frame in video],
                "encoding alone": encode,
            }
            times: dict[str, list[float]] = {name: [] for name in stages}
            for round in range(options.rounds + 1):  # the first warms up
                for label, stage in stages.items():
                    duration = seconds(stage, options.device)
                    if round:
                        times[label].append(duration)
        table[name] = {stage: len(frames) / statistics.median(values) for stage, values in times.items()}
    return table


FIRST_FRAME = """
import sys, time
from depthaware import DaGAN, animate, optimize, read_image, read_video
source, driving = sys.argv[1:]
next(animate(optimize(DaGAN.from_pretrained("dagan-tiny")), read_image(source), read_video(driving)))
print(time.time())
"""


def first_frame(rounds: int) -> float:
    """Seconds from the start of a process to the first frame of dagan-tiny on a CPU."""
    command = [sys.executable, "-c", FIRST_FRAME, str(MEDIA / "portrait.png"), str(MEDIA / "driving.mp4")]

    def once() -> float:
        start = time.time()
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) - start

    return statistics.median(once() for _ in range(rounds))


@torch.inference_mode()
def inference(options: Options) -> Iterator[tuple[str, Table]]:
    """Yield the tables of inference, each as soon as it is measured."""
    gpu = options.device.startswith("cuda")
    for size in [256] if options.quick else map(int, options.sizes.split(",")):
        for name, batch in (("DaGAN", 32 if gpu else 4), ("dagan-tiny", 64 if gpu else 8)):
            if name == "dagan-tiny" and size != 256:
                continue
            model = full_size(size) if name == "DaGAN" else DaGAN.from_pretrained(name)
            yield f"{name}, {size} px", time_variants(model, size, options, batch)
            for dtype in (torch.float32, torch.bfloat16):
                title = f"parts of {name}, {size} px, {str(dtype).removeprefix('torch.')}, batch {batch}"
                yield title, time_parts(model, size, options, batch, dtype)
    yield "dagan-tiny from file to file, frames/s", time_files(options)
    yield "dagan-tiny on a CPU, from the start of a process", {"first frame": {"seconds": first_frame(options.rounds)}}


@torch.inference_mode()
def beside_peers(options: Options) -> Iterator[tuple[str, Table]]:
    """Yield the table of `--peers`, on 2 frames."""
    source, driving = sample_images(256, 2, options.device)
    yield "networks alone, frame by frame, 256 px in", compared(parsed(options.peers), source, driving, options.rounds)


def show(title: str, table: Table) -> None:
    print(f"\n{title}")
    columns = list(next(iter(table.values())))
    print(" " * 36 + "".join(f"{column:>16}" for column in columns))
    for name, row in table.items():
        print(f"{name:36}" + "".join(f"{row[column]:16.4g}" for column in columns), flush=True)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if options.quick:
        options = replace(options, rounds=2)
    found: dict[str, Any] = {
        "machine": describe_machine(options.device, Path(__file__).parent),
        "options": asdict(options),
    }
    training = [] if options.quick else training_rates(options.device, options.rounds)
    for title, table in beside_peers(options) if options.peers else chain(inference(options), training):
        show(title, table)
        found[title] = table
        if options.output:
            Path(options.output).parent.mkdir(parents=True, exist_ok=True)
            Path(options.output).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
