"""The folder of a run.

OUTPUT/options.json    what made the run
OUTPUT/stats.jsonl     a line of figures every `log_every` images; the same in OUTPUT/tensorboard
OUTPUT/samples         sheets to look at
OUTPUT/checkpoints     everything that the run needs to go on, the last `keep` of them
"""

import dataclasses
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..media.atomic import whole_file
from ..media.image import write_image
from .run_options import FREE, RunOptions


class RunFolder:
    """What is written while training; images count the samples seen so far."""

    def __init__(self, options: RunOptions) -> None:
        self.options, self.path = options, Path(options.output)
        self._board: Any = None

    def open(self, images: int) -> None:
        """Make the folder ready for a run that begins, or goes on, after so many images."""
        from torch.utils.tensorboard import SummaryWriter

        for folder in ("checkpoints", "samples"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        for part in self.path.rglob(".*.part"):  # of a process that was killed
            part.unlink()
        for part in self.path.rglob(".saving-*"):
            shutil.rmtree(part)
        for path in self.checkpoints():
            if int(path.stem) > images:  # cut off; it must not outlive those that are whole
                path.rename(path.with_suffix(".broken"))
        with whole_file(self.path / "options.json") as part:
            part.write_text(json.dumps(dataclasses.asdict(self.options), indent=2) + "\n")
        _forget(self.path / "stats.jsonl", images)
        self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=images + 1)

    def log(self, images: int, figures: Mapping[str, float]) -> None:
        """Add a line to stats.jsonl, and the figures to TensorBoard."""
        with open(self.path / "stats.jsonl", "a") as file:
            file.write(json.dumps({"images": images, **figures}) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(name, value, images)

    def sheet(self, images: int, pictures: np.ndarray) -> None:
        """Keep a picture (H, W, 3) uint8 to look at."""
        write_image(self.path / "samples" / f"{images:09d}.png", pictures)
        self._board.add_image("samples", pictures, images, dataformats="HWC")

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted((self.path / "checkpoints").glob("*.pt"))

    def save(self, images: int, states: Mapping[str, Any], clips: str) -> None:
        """Write the states of everything that changes, then delete the checkpoints that are too many.

        Args:
            images: seen so far.
            states: by name.
            clips: what tells the training clips from others.
        """
        content = {name: state.state_dict() for name, state in states.items()}
        path = self.path / "checkpoints" / f"{images:09d}.pt"
        with whole_file(path) as part:
            try:
                torch.save({"images": images, "options": self._fixed(), "clips": clips, **content}, part)
            except RuntimeError as error:  # which PyTorch makes of a full disk
                raise ValueError(f"{path}: cannot be written ({str(error).splitlines()[0]})") from error
        for path in self.checkpoints()[: -self.options.keep]:
            path.unlink()
        self._board.flush()  # what comes before a checkpoint is not written again

    def load(self, states: Mapping[str, Any], clips: str, say: Callable[[str], None]) -> int:
        """Take the newest checkpoint that is whole; returns its number of images, or 0 where there is none.

        Raises:
            ValueError: if it is of a run with other options, or of another recipe.
        """
        for path in reversed(self.checkpoints()):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
                say(f"{path}: is not a whole checkpoint, going back to the one before")
                continue
            if not isinstance(content, dict) or not {"images", "options"} <= content.keys():
                raise ValueError(f"{path}: is no checkpoint of a training run")
            self._compare(path, content["options"])
            if content.get("clips") != clips:
                raise ValueError(
                    f"{path}: is of a run on other clips than those of --data {self.options.data}; "
                    "choose another --output"
                )
            for name, state in states.items():
                try:
                    state.load_state_dict(content[name])
                except (KeyError, RuntimeError, ValueError) as error:
                    raise ValueError(f"{path}: {name} does not fit this recipe ({error})") from error
            return content["images"]
        return 0

    def _fixed(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self.options).items() if name not in FREE}

    def _compare(self, path: Path, found: Mapping[str, Any]) -> None:
        for name, value in self._fixed().items():
            if name not in found or found[name] != value:
                raise ValueError(
                    f"{path}: is of a run with --{name.replace('_', '-')} {found.get(name)!r}, got {value!r}; "
                    "go on with that run's options, or choose another --output"
                )


def _forget(path: Path, images: int) -> None:
    """Cut off what was written after the checkpoint, and a last line that was not finished."""
    if path.exists():
        kept = []
        for line in path.read_text().splitlines():
            try:
                kept += [line] if json.loads(line)["images"] <= images else []
            except ValueError:
                break
        with whole_file(path) as part:
            part.write_text("".join(f"{line}\n" for line in kept))
