"""Measure whether a training run that is killed again and again ends like an undisturbed one.

    python examples/benchmarks/measure_resume.py --recipe train_depth --flags="--data FOLDER --images 400" --kills 10

Trains once undisturbed. Then the same again, ended by SIGKILL at random moments, a while after a random line of its
output, and started anew each time; if it comes to its end before all kills are spent, once more from nothing.
The exit code is 1 unless all weights, averages, states of optimizers and metrics are equal, bit by bit.
"""

import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from depthaware.pretrained import checkpoint
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Options of the measurement."""

    recipe: Literal["train_depth", "train_dagan"] = option("train_depth", "recipe to run")
    flags: str = option("", "flags of the recipe, in one word: --flags='--data FOLDER --images 400'")
    output: str = option("runs/resume", "new folder for all runs")
    kills: int = option(10, "number of kills")
    seed: int = option(0, "seed of the moments at which runs are killed")


def main(options: Options) -> None:
    output = Path(options.output)
    output.mkdir(parents=True)
    start = time.monotonic()
    lines = train(options, output / "whole")
    pause = (time.monotonic() - start) / lines
    print(f"undisturbed: {pause * lines:.1f} seconds", flush=True)
    kills, equal, rng = 0, [], random.Random(options.seed)
    while kills < options.kills:
        folder = output / f"killed{len(equal) + 1}"
        while kills < options.kills and not train(options, folder, rng.randint(1, lines), rng.uniform(0, pause)):
            kills += 1
            print(f"kill {kills}: the last checkpoint is {newest(folder)}", flush=True)
        train(options, folder)
        found = differences(folder, output / "whole")
        equal.append(not found)
        if found:
            print(f"{folder}: {len(found)} differ: {', '.join(sorted(found)[:5])}", flush=True)
    print(f"{kills} kills in {len(equal)} runs: the ends of {sum(equal)} are equal to the undisturbed one, bit by bit")
    sys.exit(not all(equal))


def train(options: Options, folder: Path, lines: int = sys.maxsize, pause: float = 0.0) -> int:
    """Run the recipe, or kill it some seconds after so many lines; returns the number of lines, 0 if it was killed."""
    recipe = Path(__file__).parents[1] / f"{options.recipe}.py"
    command = [sys.executable, str(recipe), *shlex.split(options.flags), "--output", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        for count, _ in enumerate(process.stdout, 1):
            if count == lines:
                time.sleep(pause)
                if process.poll() is None:
                    process.kill()
                    return 0
        reasons = process.stderr.read().splitlines()
    if process.returncode:
        raise ValueError(f"{options.recipe}: {reasons[-1] if reasons else f'exit code {process.returncode}'}")
    return count


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("checkpoints/*.pt")), default="not there yet")


def differences(one: Path, other: Path) -> list[str]:
    """Names of tensors and metrics that differ."""
    a, b = contents(one), contents(other)
    return [name for name in a.keys() | b.keys() if name not in a or name not in b or a[name] != b[name]]


def contents(folder: Path) -> dict[str, Any]:
    """Everything in the last checkpoint, the bytes of the weights, and the metrics without the seconds."""
    state = dict(flat(checkpoint.load(folder / "checkpoints" / newest(folder))))
    state |= {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
    for i, line in enumerate((folder / "stats.jsonl").read_text().splitlines()):
        state[f"stats {i}"] = {name: value for name, value in json.loads(line).items() if name != "seconds"}
    return state


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries by their paths; a tensor as its bytes."""
    if isinstance(tree, dict):
        for key, branch in tree.items():
            yield from flat(branch, f"{path}/{key}")
    else:
        yield path, tree.cpu().numpy().tobytes() if isinstance(tree, torch.Tensor) else tree


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
