"""The files of a training run.

OUTPUT/options.json    its options, resolved
OUTPUT/stats.jsonl     a line of metrics every `log_every` images; the same in OUTPUT/tensorboard
OUTPUT/samples         validation sheets
OUTPUT/checkpoints     states to resume from, the last `keep` of them
"""

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..media.atomic import whole_file
from ..media.image import write_image
from ..media.resume import check_same_options
from ..pretrained import checkpoint
from .run_options import RESUMABLE, RunOptions


class RunFolder:
    """Logs, validation sheets and checkpoints of a run; `images` counts the samples seen so far.

    Args:
        options: of the run; `output` is the folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options, self.path = options, Path(options.output)
        self._board: Any = None

    def open(self, images: int) -> None:
        """Create the folder, or remove from it all that was written after so many images."""
        from torch.utils.tensorboard import SummaryWriter

        for folder in ("checkpoints", "samples"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        for path in self.checkpoints():
            if int(path.stem) > images:  # not whole; it would be taken for a newer one than those to come
                path.rename(path.with_suffix(".broken"))
        with whole_file(self.path / "options.json") as part:
            part.write_text(json.dumps(dataclasses.asdict(self.options), indent=2) + "\n")
        _forget(self.path / "stats.jsonl", images)
        self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=images + 1)

    def log(self, images: int, metrics: Mapping[str, float]) -> None:
        """Append metrics to stats.jsonl and TensorBoard."""
        with open(self.path / "stats.jsonl", "a") as file:
            file.write(json.dumps({"images": images, **metrics}) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(name, value, images)

    def sheet(self, images: int, image: np.ndarray) -> None:
        """Save a validation sheet (H, W, 3) uint8 to samples and TensorBoard."""
        write_image(self.path / "samples" / f"{images:09d}.png", image)
        self._board.add_image("samples", image, images, dataformats="HWC")

    def checkpoints(self) -> list[Path]:
        """Paths of the checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("*.pt"))

    def save(self, images: int, states: Mapping[str, Any], clips: str) -> None:
        """Write a checkpoint, then delete the oldest ones beyond `keep`.

        Args:
            images: seen so far.
            states: objects with ``state_dict()``, by name.
            clips: digest of the names of the training clips.

        Raises:
            ValueError: if the disk is full.
        """
        content = {name: state.state_dict() for name, state in states.items()}
        path = self.path / "checkpoints" / f"{images:09d}.pt"
        with whole_file(path) as part:
            try:
                torch.save({"images": images, "options": self._fixed(), "clips": clips, **content}, part)
            except RuntimeError as error:  # PyTorch's error for a full disk
                raise ValueError(f"{path}: cannot be written ({str(error).splitlines()[0]})") from error
        for path in self.checkpoints()[: -self.options.keep]:
            path.unlink()
        self._board.flush()  # events before a checkpoint are not written again

    def load(self, states: Mapping[str, Any], clips: str, say: Callable[[str], None]) -> int:
        """Load the newest whole checkpoint into `states`.

        Args:
            states: as in `save`.
            clips: as in `save`.
            say: called with a line for each checkpoint that is skipped because it was cut off or damaged.

        Returns:
            Its number of images, or 0 where there is no checkpoint.

        Raises:
            ValueError: if it is of a run with other options or clips, or of another recipe.
        """
        for path in reversed(self.checkpoints()):
            if not _is_whole(path):
                say(f"{path}: is not a whole checkpoint, going back to the one before")
                continue
            content = checkpoint.load(path)
            if not {"images", "options"} <= content.keys():
                raise ValueError(f"{path}: is no checkpoint of a training run")
            check_same_options(str(path), content["options"], self._fixed(), flags=True)
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
        return {name: value for name, value in dataclasses.asdict(self.options).items() if name not in RESUMABLE}


def _is_whole(path: Path) -> bool:
    """Tell whether a checkpoint, which is a zip file, has all its bytes as they were written, by their checksums."""
    with open(path, "rb") as file:
        try:
            return zipfile.ZipFile(file).testzip() is None
        except Exception:  # damage raises nearly any type
            return False


def _forget(path: Path, images: int) -> None:
    """Remove the lines written after the checkpoint, and a last line that was cut off."""
    if path.exists():
        kept = []
        for line in path.read_text().splitlines():
            try:
                kept += [line] if json.loads(line)["images"] <= images else []
            except ValueError:
                break
        with whole_file(path) as part:
            part.write_text("".join(f"{line}\n" for line in kept))
