"""Training in tests: clips made on the spot, networks as small as they get, and processes that cost no imports."""

import csv
import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import train_dagan
from accelerate.state import AcceleratorState
from clips import make_clip
from conftest import TINY

from depthaware import SelfSupDepthNet
from depthaware.training import stage1, stage2

SIZE = 64
_COMMON = dict(size=SIZE, batch=2, threads=1, hold_out=0, log_every=2, sample_every=1000, precision="float32")
_STAGE_2 = dict(motion_size=16, features="none", num_keypoints=5, pyramid=1.0, deformed=0.5, learning_rate=2e-3)


def write_data(folder: Path, persons: int = 4) -> Path:
    """A clip of moving noise of each person, and beside the folder the depth of a stage 1."""
    torch.manual_seed(1)
    options = dict(decoder_channels=TINY["depth_channels"], image_size=SIZE, depth_range=[0.8, 1.25])
    SelfSupDepthNet(TINY["depth_encoder"], **options).save_pretrained(folder.parent / "depth")
    (folder / "train" / "clips").mkdir(parents=True)
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "kind", "split", "identity"])
        for person in range(persons):
            coarse = np.random.default_rng(person).integers(0, 256, (SIZE // 8, SIZE // 8, 3)).astype(np.uint8)
            blob = coarse.repeat(8, 0).repeat(8, 1)
            images = [np.roll(blob, 3 * i, axis=1) for i in range(8)]
            name = f"person{person}"
            make_clip(folder / "train" / "clips" / f"{name}.mp4", 8, (SIZE, SIZE), images=images)
            writer.writerow([name, "clip", "train", name])
    return folder


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both recipes with networks that take milliseconds."""
    monkeypatch.setitem(stage2.NETWORKS, "tiny", stage2.NetworkSize(TINY, 4))
    monkeypatch.setattr(train_dagan.held_out_pairs, "__defaults__", (8,))
    monkeypatch.setitem(stage1.NETWORKS, "tiny", (TINY["depth_encoder"], tuple(TINY["depth_channels"])))


def options(recipe: ModuleType, data: Path, output: Path, **changes: Any) -> Any:
    """Options that take the shortest time; `changes` are options too."""
    stage = _STAGE_2 | {"depth": str(data.parent / "depth")} if recipe is train_dagan else {}
    return recipe.Options(**{**_COMMON, **stage, "data": str(data), "output": str(output), "images": 4, **changes})


def fresh() -> None:
    """Let a process have another precision, or other processes beside it, than its runs before."""
    AcceleratorState._reset_state(reset_partial_state=True)


def train(recipe: ModuleType, data: Path, output: Path, changes: dict[str, Any] | None = None, **others: Any) -> Any:
    """One run in this process; returns its options."""
    fresh()
    chosen = options(recipe, data, output, **changes or {}, **others)
    recipe.main(chosen)
    return chosen


def weights(output: Path) -> dict[str, torch.Tensor]:
    """All that training changed, of the newest checkpoint: parameters, averages and the states of the optimizers."""
    content = torch.load(max((output / "checkpoints").glob("*.pt")), weights_only=True)
    return {path: value for path, value in _flat(content, "") if isinstance(value, torch.Tensor)}


def _flat(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [leaf for key, branch in tree.items() for leaf in _flat(branch, f"{path}/{key}")]
    return [(path, tree)]


def stats(output: Path) -> list[dict[str, float]]:
    """The lines of stats.jsonl without the seconds."""
    lines = [json.loads(line) for line in (output / "stats.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def in_processes(world: int, work: Callable[..., None], *arguments: Any, seconds: float = 120) -> list[int | None]:
    """Call `work` in copies of this process which torchrun might have started; their exit codes, None for a hang."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    context = multiprocessing.get_context("fork")
    names = [{"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(world)} for i in range(world)]
    processes = [
        context.Process(target=_work, args=({**address, **name} if world > 1 else {}, work, arguments))
        for name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def _work(environment: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)
