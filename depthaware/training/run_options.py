"""The options that both stages of training have."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """Options of both recipes; durations are in images, an image being one sample."""

    data: str = "../shared/faces"
    output: str = "runs/run"
    images: int = 12_000
    batch: int = 8  # of one optimizer step, over all processes
    accumulate: int = 1  # cut each process's share of the batch into so many, to save memory
    clip: float = 10.0  # largest norm of the gradient; 0 = any
    average: float = 0.998  # decay of the moving average of the weights, per step
    precision: str = "auto"  # bfloat16, float32, or auto: bfloat16 where the device computes in it natively
    seed: int = 0
    hold_out: int = 8  # identities of the train split that are kept for validation
    log_every: int = 400
    sample_every: int = 1_000
    checkpoint_every: int = 500
    keep: int = 2  # checkpoints
    cache_gb: float = 4.0  # decoded clips kept in memory by each process; 0 reads every frame when it is needed
    workers: int = 0  # processes that read ahead, for each training process
    threads: int = 2  # of the CPU, for each process
    cpu: bool = False  # also where there is a GPU
    dry_run: bool = False  # say what would be trained, take one batch, write nothing
    push_to_hub: str = ""  # repository that the weights go to at the end


# What may differ when a run goes on: it has no part in the result.
FREE = {"data", "output", "log_every", "sample_every", "checkpoint_every", "keep", "cache_gb", "workers", "threads"} | {
    "cpu",
    "dry_run",
    "push_to_hub",
}


def at_least_one(options: RunOptions, *names: str) -> None:
    """Raise one line unless all of these are."""
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")


def check(options: RunOptions) -> None:
    """Raise one line for what cannot be run."""
    if options.precision not in ("auto", "bfloat16", "float32"):
        raise ValueError(f"--precision: expected auto, bfloat16 or float32, got {options.precision!r}")
    at_least_one(options, "images", "batch", "accumulate", "log_every", "sample_every", "checkpoint_every", "keep")
    at_least_one(options, "threads")
    if options.images < options.batch:
        raise ValueError(f"--images {options.images}: expected at least a --batch of {options.batch}")
    folder = Path(options.output).absolute()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {options.output}: is a file, expected a folder")
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--output {options.output}: {folder} cannot be written to")
