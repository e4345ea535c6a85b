"""Load seeded mutants of weights, configs, exports and checkpoints, each in its own process, and count how they end.

    python examples/benchmarks/fuzz_weights.py --mutants 2000

Exports are also run. Good are a result and one line with exit code 2, within 10 s of CPU, for a refusal also within
1000 MB, the imports included. Linux.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import onnxruntime  # noqa: F401  # here, or each process would import it
import timm  # noqa: F401
import torch
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from mutants import SMALL, Tally, change_bytes, change_json, complaint, forked, small_weights, start

from depthaware import DaGAN
from depthaware.cli.main import main
from depthaware.export.facts import GRAPHS
from depthaware.export.runtimes import ExportedDaGAN, follow

FOMM = {"keypoint_input": "rgb", "attention": "none"}
_THEIRS = (  # ours -> the names in a checkpoint of FOMM
    (r"^generator\.(appearance_encoder|decoder)\.", ""),
    (r"^bottleneck\.", "bottleneck.r"),
    (r"^kp_detector\.", ""),
    (r"^hourglass\.", "predictor."),
    (r"^dense_motion\.", "dense_motion_network."),
    (r"(predictor|hourglass)\.down", r"\1.encoder.down"),
    (r"(predictor|hourglass)\.up", r"\1.decoder.up"),
)


def write_checkpoint(path: Path) -> Path:
    """Save small random weights as a training script of FOMM does."""
    parts: dict[str, dict[str, Any]] = {"generator": {}, "kp_detector": {}}
    for name, tensor in DaGAN(**SMALL | FOMM).state_dict().items():
        part = parts["kp_detector" if name.startswith("kp_detector.") else "generator"]
        for ours, theirs in _THEIRS:
            name = re.sub(ours, theirs, name)
        part[name] = tensor
    torch.save({**parts, "epoch": 3}, path)
    return path


def _load(call: Callable[[], Any]) -> int:
    try:
        call()
    except ValueError as error:
        print(f"depthaware: error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def mutant(path: Path, data: bytes, rng: random.Random) -> bytes:
    """Change bytes, or most often a value of JSON, and half of the time one of a graph."""
    if path.suffix == ".json" and rng.random() < 0.75:
        return json.dumps(change_json(json.loads(data), rng)).encode()
    if path.suffix == ".onnx" and rng.random() < 0.5:
        graph = MessageToDict(onnx.load_from_string(data))
        while True:
            with suppress(ParseError, TypeError, AttributeError):  # another kind of value than the format has
                return ParseDict(change_json(graph, rng), onnx.ModelProto()).SerializeToString()
    return change_bytes(data, rng)


def make(folder: Path) -> dict[str, tuple[Path, Callable[[], int]]]:
    """Good files, by kind, and the loading of each."""
    weights, graphs = small_weights(folder / "weights"), folder / "graphs"
    words = ["export", "--weights", str(weights), "--output", str(graphs), "--quiet"]
    _, status = os.waitpid(start(lambda: main(words), folder / "log"), 0)  # or the runtime's threads would be forked
    if status:
        raise RuntimeError((folder / "log").read_text())
    images = torch.rand(3, 3, 64, 64)
    checkpoint = write_checkpoint(folder / "x.pth.tar")

    def convert() -> int:
        return main(["convert", str(checkpoint), "--output", str(folder / "out"), "--quiet"])

    def load() -> int:
        return _load(lambda: DaGAN.from_pretrained(weights))

    def run() -> int:
        return _load(lambda: follow(ExportedDaGAN(graphs), images[:1], images[1:]))

    return {
        "config": (weights / "config.json", load),
        "safetensors": (weights / "model.safetensors", load),
        "export": (graphs / "export.json", run),
        **{name: (graphs / f"{name}.onnx", run) for name in GRAPHS},
        "checkpoint": (checkpoint, convert),
    }


def fuzz(count: int, seed: int, keep: Path) -> int:
    """Print a table; keep the files that end badly. Returns their number."""
    folder = Path(tempfile.mkdtemp())
    bad = 0
    print(Tally.HEADER, flush=True)
    files = make(folder)
    for position, (kind, (path, call)) in enumerate(files.items()):
        rng, good, tally = random.Random(f"{seed} {kind}"), path.read_bytes(), Tally(kind)
        for number in range(count // len(files) + (position < count % len(files))):
            data = mutant(path, good, rng) if number else good  # the first one is good
            path.write_bytes(data)
            end = forked(call)
            wrong = complaint(end)
            if number == 0 and end.how != "exit 0":
                wrong = wrong or f"refused, though good: {end.said}"
            if end.how == "exit 2" and (folder / "out").exists():
                wrong = wrong or "refused, but left a folder"
            shutil.rmtree(folder / "out", ignore_errors=True)
            tally.add(end, wrong)
            if wrong:
                keep.mkdir(exist_ok=True, parents=True)
                (keep / f"{kind}-{seed}-{number}").write_bytes(data)
                print(f"  {kind}-{seed}-{number}: {wrong}", flush=True)
        path.write_bytes(good)
        bad += tally.bad
        print(tally, flush=True)
    shutil.rmtree(folder)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("bad-mutants"), help="folder for files that end badly")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads would not survive the fork
    sys.exit(1 if fuzz(options.mutants, options.seed, options.keep) else 0)
