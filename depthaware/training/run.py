"""One training run: processes, precision, gradients, logs, checkpoints and exact resume.

A run that was interrupted ends as if it had not been: all random numbers follow from the seed and the number of images
seen so far, and whatever was written after the last checkpoint is written again.
"""

import dataclasses
import hashlib
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._optional import require
from ..data.pairs import Clips, batches
from ..pretrained.hub import upload
from .optimizer import trainable
from .precision import resolved_precision
from .run_folder import RunFolder
from .run_options import RunOptions, check
from .synced_norm import synchronize_batch_norms

Network = TypeVar("Network", bound=nn.Module)


class Part(NamedTuple):
    """Samples that go through the network in one forward pass.

    Attributes:
        frames: (b, 3, H, W) each, in [0, 1], on the device.
        rows: their positions in the whole batch, which is over all processes.
    """

    frames: tuple[Tensor, ...]
    rows: slice


class Run:
    """A training run in this process, which may be one of several; only the main process prints and writes.

    Args:
        options: of the recipe, with all values resolved: they are written to options.json.

    Attributes:
        options: as given, with the precision that "auto" stands for on this device.
        folder: the files of the run.
        device: of this process.
        main: whether this is the main process.

    Raises:
        ValueError: if an option is out of range, or the batch cannot be shared evenly.
        ImportError: without the packages of the extra `train`.
    """

    def __init__(self, options: Any) -> None:
        check(options)
        options = dataclasses.replace(options, precision=resolved_precision(options))
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        self.options, self.folder, self.start = options, RunFolder(options), time.monotonic()
        self.accelerator = _accelerator(options)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self._states: dict[str, Any] = {}
        self._clips = ""
        if options.batch % (self.accelerator.num_processes * options.accumulate):
            raise ValueError(
                f"--batch {options.batch}: expected a multiple of {self.accelerator.num_processes} processes "
                f"x --accumulate {options.accumulate}"
            )

    def prepare(self, network: Network) -> Network:
        """Move a network to the device, and let gradients and batch norms be those of the whole batch."""
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.accelerator.num_processes > 1:
            synchronize_batch_norms(network)
            # Older PyTorch lacks the new name of the former; 1 x 1 convolutions have only one order of weights.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated|Grad strides do not match bucket view")
        return self.accelerator.prepare(network)

    def resume(self, states: Mapping[str, Any], clips: Sequence[str]) -> int:
        """Load the newest whole checkpoint, if there is one, and prepare the folder.

        Args:
            states: everything that changes in training, by name: networks, averages, optimizers.
            clips: names of the training clips; a checkpoint of other clips is refused.

        Returns:
            The number of images seen so far.

        Raises:
            ValueError: if the checkpoint is of a run with other options or clips, or processes disagree.
        """
        self._states, self._clips = dict(states), hashlib.sha256("\n".join(clips).encode()).hexdigest()
        images = self.folder.load(self._states, self._clips, self.say)
        found = self.gather(images)
        if len(set(found)) > 1:
            raise ValueError(
                f"--output {self.options.output}: the processes found checkpoints of {found} images, expected a folder "
                "that all of them share"
            )
        if self.main and not self.options.dry_run:
            self.folder.open(images)
        return images

    def check_clips(self, clips: Clips, frames: int) -> None:
        """Print a summary of the clips, and the first ones that have less than so many frames."""
        if self.main:
            dropped = clips.check(frames)
            self.say(f"{len(clips.names)} clips of {len(clips.by_identity)} persons from {self.options.data}")
            for name, reason in list(dropped.items())[:10]:
                self.say(f"skipped {name}: {reason}")
            if dropped:
                self.say(f"{len(dropped)} of {len(clips.names)} clips are skipped")

    def gather(self, number: int) -> list[int]:
        """The number that each process gives."""
        return self.accelerator.gather(torch.tensor([number], device=self.device)).tolist()

    def batches(self, dataset: Dataset, images: int) -> Iterator[tuple[int, list["Part"]]]:
        """Batches from `images` to the end of the run.

        Yields:
            Images seen after this step, and this process's share of the batch in `accumulate` parts.
        """
        options, accelerator = self.options, self.accelerator
        stop = images + options.batch if options.dry_run else options.images // options.batch * options.batch
        loader = batches(
            dataset,
            options.batch,
            start=images,
            stop=stop,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            workers=options.workers,
        )
        size = options.batch // accelerator.num_processes // options.accumulate
        for share in loader:
            images += options.batch
            chunks = zip(*(self._to_device(frames).split(size) for frames in share), strict=True)
            first = accelerator.process_index * options.accumulate
            yield images, [Part(frames, slice(i * size, (i + 1) * size)) for i, frames in enumerate(chunks, first)]

    def _to_device(self, frames: Tensor) -> Tensor:
        frames = frames.to(self.device, non_blocking=True)
        return frames.contiguous(memory_format=torch.channels_last) if frames.ndim == 4 else frames  # else landmarks

    @contextmanager
    def no_sync_unless_last(self, *networks: nn.Module | None, last: bool) -> Iterator[None]:
        """Context of the forward and backward pass of one part: only the last one exchanges gradients."""
        with ExitStack() as stack:
            for network in networks:
                if network is not None and not last:
                    stack.enter_context(self.accelerator.no_sync(network))
            yield

    def backward(self, terms: Mapping[str, Tensor], images: int) -> dict[str, float]:
        """Add the gradients of the sum of loss terms.

        Args:
            terms: scalars by name.
            images: seen after this step, for the error message.

        Returns:
            The mean of each term over the processes.

        Raises:
            ValueError: that names the term which is not finite.
        """
        values = self.accelerator.reduce(torch.stack([term.detach().float() for term in terms.values()]), "mean")
        metrics = dict(zip(terms, values.tolist(), strict=True))
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(images, f"the loss {name!r} is {value}")
        self.accelerator.backward(torch.stack(list(terms.values())).sum() / self.options.accumulate)
        return metrics

    def step(self, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, images: int) -> float:
        """Clip the gradients and take a step at learning rate `rate`; returns the norm before clipping.

        Raises:
            ValueError: if the norm is not finite.
        """
        norm = nn.utils.clip_grad_norm_(trainable(network), self.options.clip or math.inf).item()
        if not math.isfinite(norm):
            raise self._diverged(images, f"the norm of the gradient is {norm}")
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def _diverged(self, images: int, what: str) -> ValueError:
        checkpoints = self.folder.checkpoints()
        last = f"the last good weights are in {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
        return ValueError(f"after {images} images {what}: stopped, {last}; try a lower --learning-rate or --clip")

    def due(self, every: int, images: int) -> bool:
        """Tell whether this step passed a multiple of `every` images or the end; False in a dry run."""
        batch, dry = self.options.batch, self.options.dry_run
        return not dry and (images + batch > self.options.images or images // every != (images - batch) // every)

    def log(self, images: int, metrics: Mapping[str, float]) -> None:
        """Print metrics and append them to the logs, with the seconds since the start of the process."""
        if self.main:
            metrics = {**metrics, "seconds": time.monotonic() - self.start}
            self.say(f"images {images}  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
            self.folder.log(images, metrics)

    def checkpoint(self, images: int) -> None:
        """Save the states named in `resume`."""
        if self.main:
            self.folder.save(images, self._states, self._clips)

    def finish(self, folder: Path, files: Sequence[str]) -> None:
        """Print where the weights are, and push them to the Hub if `push_to_hub` is set.

        Args:
            folder: of the weights.
            files: names of those to upload.
        """
        if self.options.dry_run:
            peak = f", {torch.cuda.max_memory_allocated() >> 20} MB" if self.device.type == "cuda" else ""
            self.say(f"dry run: one step of {self.options.batch} images went well{peak}; nothing was written")
        elif self.main:
            self.say(f"{folder}: the weights after {self.options.images} images")
            if self.options.push_to_hub:
                self.say(upload(folder, self.options.push_to_hub, files=files, private=True))

    def say(self, line: str) -> None:
        """Print a line, in the main process alone."""
        if self.main:
            print(line, flush=True)


def _accelerator(options: RunOptions) -> Any:
    require("tensorboard", "train")
    accelerate = require("accelerate", "train")
    cpu = options.cpu or not torch.cuda.is_available()
    mixed = "bf16" if options.precision == "bfloat16" else "no"
    # Every process computes the same batch-norm statistics, so that no buffers need to be sent.
    distributed = accelerate.DistributedDataParallelKwargs(broadcast_buffers=False)
    return accelerate.Accelerator(cpu=cpu, mixed_precision=mixed, kwargs_handlers=[distributed])
