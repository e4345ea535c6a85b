"""Options that both stages of training have in common."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .options import check_choices, option, required

HOW_TO_GET_CLIPS = "make clips of your own videos with the recipe prepare_clips.py of depthaware"


@dataclass(frozen=True)
class RunOptions:
    """Options of a training run; durations are in images, an image being one sample."""

    data: str = required("a folder of clips cropped around a head, or shards of them", HOW_TO_GET_CLIPS)
    output: str = option("runs/run", "folder of the run; given the same folder again, an interrupted run is resumed")
    images: int = option(12_000, "length of the run")
    batch: int = option(8, "images of one optimizer step, over all processes")
    accumulate: int = option(1, "parts into which each process cuts its share of a batch, to save memory")
    clip: float = option(10.0, "largest norm of the gradient; 0 for any")
    ema: float = option(0.998, "decay per step of the exponential moving average of the weights")
    precision: Literal["auto", "bfloat16", "float32"] = option(
        "auto",
        "compute dtype of the networks; auto is bfloat16 on devices with native support, else float32, and a run is "
        "resumed with the dtype that it was started with",
    )
    seed: int = option(0, "seed of initial weights, samples and augmentation")
    hold_out: int = option(8, "identities of the train split that are kept for validation")
    log_every: int = option(400, "images between two lines of metrics")
    sample_every: int = option(1_000, "images between two validations")
    checkpoint_every: int = option(500, "images between two checkpoints")
    keep: int = option(2, "number of checkpoints that are kept")
    cache_gb: float = option(4.0, "memory for decoded clips, in GB per process; with 0 frames are decoded when needed")
    workers: int = option(0, "data-loading processes of each training process")
    threads: int = option(2, "CPU threads of each process")
    cpu: bool = option(False, "train on the CPU even if there is a GPU")
    dry_run: bool = option(False, "check everything, take one step, and write nothing")
    push_to_hub: str | None = option(None, "Hub repository, user/model, to which the weights are uploaded at the end")


# Options that may differ when a run is resumed, since the result does not depend on them.
RESUMABLE = {
    "data",
    "output",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "cache_gb",
    "workers",
    "threads",
}
RESUMABLE |= {"cpu", "dry_run", "push_to_hub"}


# Ranges of options of all recipes, by name.
_COUNTS = "images batch accumulate log_every sample_every checkpoint_every keep threads every candidates num_keypoints"
_RANGES: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    (f"{_COUNTS} size motion_size max_gap image_scales disparity_scales", "at least 1", lambda x: x >= 1),
    ("clip cache_gb min_motion workers hold_out detector_images", "at least 0", lambda x: x >= 0),
    ("focal near far", "more than 0", lambda x: x > 0),
    ("ema", "at least 0 and less than 1", lambda x: 0 <= x < 1),
    ("alpha", "at least 0 and at most 1", lambda x: 0 <= x <= 1),
    ("neighbors", "1 or 2", lambda x: x in (1, 2)),
)


def check_ranges(options: Any) -> None:
    """Check the numbers among the options of a recipe, except those that are None.

    Raises:
        ValueError: that names the first option which is out of range, and its range.
    """
    for names, expected, fits in _RANGES:
        for name in names.split():
            value = getattr(options, name, None)
            if value is not None and not fits(value):
                raise ValueError(f"--{name.replace('_', '-')}: expected {expected}, got {value}")


def check_output(output: str) -> None:
    """Check that a folder exists or can be created, and can be written to.

    Raises:
        ValueError: if not.
    """
    folder = Path(output).absolute()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {output}: is a file, expected a folder")
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--output {output}: {folder} cannot be written to")


def check(options: RunOptions) -> None:
    """Check what can be checked before any work is done.

    Raises:
        ValueError: if a value is out of range, or the output folder cannot be written.
    """
    check_choices(options)
    check_ranges(options)
    if options.images < options.batch:
        raise ValueError(f"--images {options.images}: expected at least a --batch of {options.batch}")
    check_output(options.output)
