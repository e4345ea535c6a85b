"""Load seeded mutants of weights, configs, exports and checkpoints, each in its own process, and count how they end.

    python examples/benchmarks/fuzz_weights.py --mutants 2000

Good are a result and one line with exit code 2, within 10 s and 1 GB more than the imports take.
"""

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm  # noqa: F401  # here, or each process would import it
import torch

from depthaware import DaGAN
from depthaware.cli.main import main
from depthaware.export.runtimes import ExportedDaGAN

LIMIT_S, LIMIT_MB = 10, 1000
SMALL: dict[str, Any] = dict(
    image_size=64, num_keypoints=3, depth_encoder="test_resnet", depth_channels=[4, 4, 8, 8, 8],
    detector_block_expansion=4, motion_block_expansion=4, hourglass_max_features=16, num_hourglass_blocks=2,
    generator_block_expansion=4, generator_max_features=16, num_bottleneck_blocks=1,
)  # fmt: skip
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    7,
    10**9,
    2**64,
    1e308,
    0.3,
    "",
    "x",
    "../x",
    "/etc/passwd",
    "hf-hub:a/b",
    [],
    {},
    [[[]]],
]


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite; the beginning, where headers are, most often."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = min(int(rng.expovariate(1 / max(len(changed) / 8, 1))), max(len(changed) - 1, 0))
        length = rng.choice([1, 4, 8, 100])
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[at : at + length] = rng.choice([b"\0", b"\xff"]) * length
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * rng.choice([1, 50])
        else:
            del changed[at + 1 :]
    return bytes(changed)


def change_json(value: Any, rng: random.Random) -> Any:
    """Replace, remove or add one value, at any depth."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(VALUES)
    key: Any = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    changed = value.copy()
    if rng.random() < 0.1:
        del changed[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        changed[rng.choice(["class", "pretrained", "family", "x"])] = rng.choice(VALUES)
    else:
        changed[key] = change_json(value[key], rng)
    return changed


def make(folder: Path) -> dict[str, tuple[Path, Callable[[], int]]]:
    """Good files, by kind, and the loading of each."""
    torch.manual_seed(0)
    DaGAN(**SMALL).save_pretrained(folder / "weights")
    names = {"source_encoder": ["source_image"], "detector": ["driving_image"], "driver": ["source_image"]}
    graphs = {name: {"file": f"{name}.onnx", "inputs": inputs, "outputs": ["y"]} for name, inputs in names.items()}
    (folder / "graphs").mkdir()
    facts = {"format": "onnx", "size": 64, "config": DaGAN(**SMALL).config, "graphs": graphs}
    (folder / "graphs/export.json").write_text(json.dumps(facts))
    fomm = SMALL | {"keypoint_input": "rgb", "attention": "none"}
    torch.save({"generator": DaGAN(**fomm).generator.state_dict(), "kp_detector": {}}, folder / "x.pth.tar")

    def load(call: Callable[[], Any]) -> int:
        try:
            call()
        except ValueError as error:
            return 2 if str(error) and "\n" not in str(error) else 1
        return 0

    def convert() -> int:
        return main(["convert", str(folder / "x.pth.tar"), "--output", str(folder / "out"), "--quiet"])

    weights = lambda: load(lambda: DaGAN.from_pretrained(folder / "weights"))  # noqa: E731
    return {
        "config": (folder / "weights/config.json", weights),
        "safetensors": (folder / "weights/model.safetensors", weights),
        "export": (folder / "graphs/export.json", lambda: load(lambda: ExportedDaGAN(folder / "graphs"))),
        "checkpoint": (folder / "x.pth.tar", convert),
    }


def run(call: Callable[[], int]) -> tuple[str, float, float]:
    """Call in a forked process, and return its end, its seconds, and its MB beyond those of this process."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(2 * LIMIT_S)
        code = 1
        try:
            code = call()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    ended = f"exit {os.WEXITSTATUS(status)}" if os.WIFEXITED(status) else f"signal {os.WTERMSIG(status)}"
    return ended, time.monotonic() - start, max(usage.ru_maxrss - before, 0) / 1024


def fuzz(count: int, seed: int, keep: Path) -> int:
    """Print a table; keep the files that end badly. Returns their number."""
    folder = Path(tempfile.mkdtemp())
    bad = 0
    print("kind         mutants  exit 0  exit 2  other  slowest s  largest MB")
    for kind, (path, call) in make(folder).items():
        rng, good, ends = random.Random(f"{seed} {kind}"), path.read_bytes(), collections.Counter[str]()
        slowest = largest = 0.0
        for number in range(count // 4):
            structured = path.suffix == ".json" and number % 4
            data = json.dumps(change_json(json.loads(good), rng)).encode() if structured else change_bytes(good, rng)
            path.write_bytes(data)
            ended, seconds, megabytes = run(call)
            ends[ended] += 1
            slowest, largest = max(slowest, seconds), max(largest, megabytes)
            if ended not in ("exit 0", "exit 2") or seconds > LIMIT_S or megabytes > LIMIT_MB:
                bad += 1
                keep.mkdir(exist_ok=True)
                (keep / f"{kind}-{seed}-{number}").write_bytes(data)
        path.write_bytes(good)
        others = sum(ends.values()) - ends["exit 0"] - ends["exit 2"]
        row = f"{sum(ends.values()):>7}  {ends['exit 0']:>6}  {ends['exit 2']:>6}  {others:>5}"
        print(f"{kind:<12} {row}  {slowest:>9.1f}  {largest:>10.0f}", flush=True)
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
