"""Kill commands and a training at random moments, and count what they leave.

    PYTHONPATH=examples python examples/benchmarks/kill_runs.py --kills 200

Each runs in a forked process, with small random weights, in the folder of the kills before; half of the signals are
SIGKILL, the others SIGINT and SIGTERM. After each, every file that has its final name must be whole, and no process be
left; every few kills a run to its end must leave the very files that an undisturbed one leaves. Linux.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import torch
import train_depth
from fuzz_media import good_files
from fuzz_weights import write_checkpoint
from mutants import SMALL, small_weights, start, survivors
from safetensors import safe_open

from depthaware.cli.main import main
from depthaware.media.video import read_video
from depthaware.training import stage1
from depthaware.training.options import run_recipe

KILLS_BETWEEN_RUNS = 4
_CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


def make(folder: Path) -> dict[str, Callable[[Path], int]]:
    """Runs to kill, by name; each takes the folder of its results."""
    good = good_files(folder / "media")
    weights = str(small_weights(folder / "weights", blend=True))  # or all frames were alike
    checkpoint = str(write_checkpoint(folder / "x.pth.tar"))
    clips = folder / "clips/train/clips"
    clips.mkdir(parents=True)
    for name in ("a", "b", "c"):
        shutil.copyfile(good["mp4"], clips / f"{name}.mp4")
    rows = [f"{name},clip,train,{name}" for name in "abc"]
    (folder / "clips/manifest.csv").write_text("\n".join(["name,kind,split,identity", *rows]) + "\n")

    def animate(out: Path) -> int:
        words = ["animate", "--weights", weights, "--source", str(good["jpg"]), "--driving", str(good["mp4"])]
        others = ["--save-depth", str(out / "depth.mp4"), "--save-motion", str(out / "motion.safetensors")]
        return main([*words, "--output", str(out / "result.mp4"), *others])

    def frames(out: Path) -> int:
        words = ["animate", "--weights", weights, "--source", str(good["jpg"]), "--driving", str(good["mp4"])]
        return main([*words, "--output", str(out / "result.webp")])

    def export(out: Path) -> int:
        return main(["export", "--weights", weights, "--output", str(out)])

    def evaluate(out: Path) -> int:
        words = ["evaluate", "--weights", weights, "--data", str(folder / "clips"), "--split", "train"]
        protocol = ["--protocol", "same-identity", "--metrics", "l1,psnr,ssim", "--batch-size", "1"]
        return main([*words, *protocol, "--output", str(out)])

    def convert(out: Path) -> int:
        return main(["convert", checkpoint, "--output", str(out)])

    def training(out: Path) -> int:
        stage1.NETWORKS["tiny"] = (SMALL["depth_encoder"], tuple(SMALL["depth_channels"]))
        options = "--size 64 --batch 1 --threads 1 --hold-out 1 --precision float32 --cpu --images 4"
        every = "--log-every 1 --sample-every 2 --checkpoint-every 2"
        paths = ["--data", str(folder / "clips"), "--output", str(out)]
        sys.argv = ["train_depth.py", *paths, *options.split(), *every.split()]
        try:
            run_recipe(train_depth.main, train_depth.Options, None)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return {run.__name__: run for run in (animate, frames, export, evaluate, convert, training)}


def broken(path: Path) -> str:
    """Say why a file is not whole; nothing if it is, or grows by lines."""
    readers: dict[str, Callable[[Path], object]] = {
        ".mp4": lambda path: [frame.image for frame in read_video(path, strict=True)],
        ".webp": lambda path: [frame.image for frame in read_video(path, strict=True)],
        ".json": lambda path: json.loads(path.read_text()),
        ".onnx": lambda path: onnx.checker.check_model(onnx.load(path)),
        ".safetensors": lambda path: [f.get_tensor(name) for f in [safe_open(path, "pt")] for name in f.keys()],  # noqa: SIM118
        ".png": lambda path: np.asarray(PIL.Image.open(path)),
        ".pt": lambda path: [zip.read(name) for zip in [zipfile.ZipFile(path)] for name in zip.namelist()],
        ".md": lambda path: path.read_text()[0],
    }
    try:
        readers.get(path.suffix, lambda _: None)(path)
        return ""
    except Exception as error:
        return f"{path.name}: {type(error).__name__} {error}"


def names(folder: Path) -> list[str]:
    """Files below a folder, but for those of TensorBoard, of which each start writes one."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in paths if "tensorboard" not in path.parts)


def wait(pid: int, seconds: float) -> int | None:
    """Exit code of a process, negative for a signal; None if it runs on."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.0005)


@dataclasses.dataclass
class Victim:
    """A run that is killed again and again in one folder; counts what was wrong."""

    name: str
    run: Callable[[Path], int]
    folder: Path
    hits: int = 0
    half_written: int = 0
    orphans: int = 0
    leftovers: int = 0
    wrong_ends: int = 0

    def __post_init__(self) -> None:
        self.log, self.seconds = self.folder / "log", 0.0
        begin, out = time.monotonic(), self.fresh()
        if (code := wait(start(lambda: self.run(out), self.log), 300)) != 0:
            raise RuntimeError(f"{self.name}: ended with {code}: {self.log.read_text()}")
        self.seconds = time.monotonic() - begin
        self.expected = names(out)
        self.fresh()

    def fresh(self) -> Path:
        """Empty the folder of the results."""
        self.out = self.folder / "out"
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        return self.out

    def kill(self, rng: random.Random) -> None:
        """Start, kill at a random moment, and look at what is there."""
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
        at = rng.uniform(0, 1.1 * self.seconds)
        pid = start(lambda: self.run(self.out), self.log)
        code = wait(pid, at)
        if code is None:
            self.hits += 1
            os.kill(pid, number)
            code = wait(pid, 60)
            if code not in (_CODES[number], -number, 0):  # -number: outside of the command, or of a training
                self.complain("wrong_ends", f"{number.name} after {at:.2f} s: {code}: {self.log.read_text()[-300:]}")
        elif code != 0:
            self.complain("wrong_ends", f"ended with {code}: {self.log.read_text()[-300:]}")
        begin = time.monotonic()
        while (left := survivors(pid)) and time.monotonic() < begin + 5:
            time.sleep(0.01)
        if left:
            self.complain("orphans", f"{number.name} after {at:.2f} s: {left}")
        for path in self.out.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(self.out).parts)
            if not hidden and path.is_file() and (reason := broken(path)):
                self.complain("half_written", f"{number.name} after {at:.2f} s: {reason}")

    def finish(self) -> None:
        """Run to the end, and compare the names of the files with those of an undisturbed run."""
        code = wait(start(lambda: self.run(self.out), self.log), 300)
        if code != 0:
            self.complain("wrong_ends", f"next run: {code}: {self.log.read_text()[-300:]}")
        elif (found := names(self.out)) != self.expected:
            self.complain("leftovers", f"{sorted(set(found) ^ set(self.expected))}")
        self.fresh()

    def complain(self, what: str, reason: str) -> None:
        """Count and print what is wrong."""
        setattr(self, what, getattr(self, what) + 1)
        print(f"  {self.name}: {what}: {' '.join(reason.split())}", flush=True)


def kill_all(count: int, seed: int, chosen: list[str] | None = None) -> int:
    """Print a table; returns the number of wrong things."""
    folder, bad = Path(tempfile.mkdtemp()), 0
    tempfile.tempdir = str(folder)
    runs = {name: run for name, run in make(folder).items() if chosen is None or name in chosen}
    print("run       kills hit  half-written  orphans  leftovers  wrong ends  a run, s", flush=True)
    for position, (name, run) in enumerate(runs.items()):
        victim, rng = Victim(name, run, folder / name), random.Random(f"{seed} {name}")
        wanted = count // len(runs) + (position < count % len(runs))
        while victim.hits < wanted:
            for _ in range(min(KILLS_BETWEEN_RUNS, wanted - victim.hits)):
                victim.kill(rng)
            victim.finish()
        found = [victim.half_written, victim.orphans, victim.leftovers, victim.wrong_ends]
        bad += sum(found)
        columns = f"{found[0]:>12}  {found[1]:>7}  {found[2]:>9}  {found[3]:>10}  {victim.seconds:>8.1f}"
        print(f"{name:<10}{victim.hits:>9}  {columns}", flush=True)
    shutil.rmtree(folder)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", help="names of them (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads would not survive the fork
    sys.exit(1 if kill_all(options.kills, options.seed, options.runs) else 0)
