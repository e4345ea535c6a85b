"""The engine of a training run: one process or many, precision, gradients, and going on where it was interrupted.

The same command goes on as if it had not been interrupted: whatever is drawn at random follows from the seed and the
number of images seen so far, and what was written after the last checkpoint is written again.
"""

import copy
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
from ..inference.optimization import best_dtype
from ..pretrained.hub import upload
from .options import RunOptions, check
from .run_folder import RunFolder
from .synced_norm import synchronize_batch_norms

Network = TypeVar("Network", bound=nn.Module)


class Part(NamedTuple):
    """What goes through the network at once.

    Attributes:
        frames: (b, 3, H, W) each.
        rows: which ones of the whole batch, over all processes, these are.
    """

    frames: tuple[Tensor, ...]
    rows: slice


class Run:
    """One training run, in this process one of `world`; only the main process writes."""

    def __init__(self, options: Any) -> None:
        check(options)
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
        """The network on its device, its gradients and batch-norm statistics those of all processes."""
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.accelerator.num_processes > 1:
            synchronize_batch_norms(network)
            # The new name of the first is too new, and 1 x 1 convolutions have but one order of weights.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated|Grad strides do not match bucket view")
        return self.accelerator.prepare(network)

    def resume(self, states: Mapping[str, Any], clips: Sequence[str]) -> int:
        """Name all that changes while training, and the clips; returns how many images have been seen so far."""
        self._states, self._clips = dict(states), hashlib.sha256("\n".join(clips).encode()).hexdigest()
        images = self.folder.load(self._states, self._clips, self.say)
        found = self.everywhere(images)
        if len(set(found)) > 1:
            raise ValueError(
                f"--output {self.options.output}: the processes found checkpoints of {found} images, expected a folder "
                "that all of them share"
            )
        if self.main and not self.options.dry_run:
            self.folder.open(images)
        return images

    def check_clips(self, clips: Clips, frames: int) -> None:
        """Say what is trained on, and which clips cannot give so many frames."""
        if self.main:
            dropped = clips.check(frames)
            self.say(f"{len(clips.names)} clips of {len(clips.by_identity)} persons from {self.options.data}")
            for name, reason in list(dropped.items())[:10]:
                self.say(f"skipped {name}: {reason}")
            if dropped:
                self.say(f"{len(dropped)} of {len(clips.names)} clips are skipped")

    def everywhere(self, number: int) -> list[int]:
        """What each process has."""
        return self.accelerator.gather(torch.tensor([number], device=self.device)).tolist()

    def batches(self, dataset: Dataset, images: int) -> Iterator[tuple[int, list["Part"]]]:
        """From `images` to the end: images seen after each step, and this process's share of its batch in parts."""
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
        return frames.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    @contextmanager
    def gathering(self, *networks: nn.Module | None, last: bool) -> Iterator[None]:
        """Around the forward and backward pass of one part: gradients are exchanged with the `last` one alone."""
        with ExitStack() as stack:
            for network in networks:
                if network is not None and not last:
                    stack.enter_context(self.accelerator.no_sync(network))
            yield

    def backward(self, terms: Mapping[str, Tensor], images: int) -> dict[str, float]:
        """Add the gradients of the sum of `terms`; returns the mean of each over the processes.

        Raises:
            ValueError: that names the term which is not finite.
        """
        values = self.accelerator.reduce(torch.stack([term.detach().float() for term in terms.values()]), "mean")
        figures = dict(zip(terms, values.tolist(), strict=True))
        for name, value in figures.items():
            if not math.isfinite(value):
                raise self._diverged(images, f"the loss {name!r} is {value}")
        self.accelerator.backward(torch.stack(list(terms.values())).sum() / self.options.accumulate)
        return figures

    def step(self, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, images: int) -> float:
        """Clip the gradients and take a step at this learning rate; returns the gradients' norm."""
        norm = nn.utils.clip_grad_norm_(trained(network), self.options.clip or math.inf).item()
        if not math.isfinite(norm):
            raise self._diverged(images, f"the norm of the gradient is {norm}")
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def _diverged(self, images: int, what: str) -> ValueError:
        checkpoints = self.folder.checkpoints()
        last = f"the last good weights are in {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
        return ValueError(f"after {images} images {what}: stopped, {last}; try a lower --learning-rate or --clip")

    def due(self, every: int, images: int) -> bool:
        """Whether a multiple of `every` images has just been passed, or the end; never in a dry run."""
        batch, dry = self.options.batch, self.options.dry_run
        return not dry and (images + batch > self.options.images or images // every != (images - batch) // every)

    def log(self, images: int, figures: Mapping[str, float]) -> None:
        """Print figures and keep them."""
        if self.main:
            figures = {**figures, "seconds": time.monotonic() - self.start}
            self.say(f"images {images}  " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
            self.folder.log(images, figures)

    def checkpoint(self, images: int) -> None:
        """Keep everything that the run needs to go on."""
        if self.main:
            self.folder.save(images, self._states, self._clips)

    def finish(self, folder: Path, files: Sequence[str]) -> None:
        """Say where the weights are, and push these files to the Hub if that was asked for."""
        if self.options.dry_run:
            peak = f", {torch.cuda.max_memory_allocated() >> 20} MB" if self.device.type == "cuda" else ""
            self.say(f"dry run: one step of {self.options.batch} images went well{peak}; nothing was written")
        elif self.main:
            self.say(f"{folder}: the weights after {self.options.images} images")
            if self.options.push_to_hub:
                self.say(upload(folder, self.options.push_to_hub, files=files, private=True))

    def say(self, line: str) -> None:
        if self.main:
            print(line, flush=True)


def _accelerator(options: RunOptions) -> Any:
    require("tensorboard", "train")
    accelerate = require("accelerate", "train")
    cpu = options.cpu or not torch.cuda.is_available()
    native = best_dtype(torch.device("cpu" if cpu else "cuda")) == torch.bfloat16
    mixed = "bf16" if options.precision == "bfloat16" or (options.precision == "auto" and native) else "no"
    # Every process computes the same statistics, so there are no buffers to send around.
    how = accelerate.DistributedDataParallelKwargs(broadcast_buffers=False)
    return accelerate.Accelerator(cpu=cpu, mixed_precision=mixed, kwargs_handlers=[how])


def cosine(done: float, final: float = 0.05) -> float:
    """Share of the learning rate when so much of the run is done, from 1 down to `final`."""
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that get gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class Average(nn.Module):
    """An exponential moving average of a network, which is what gets used in the end."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = copy.deepcopy(network).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Move towards the network's parameters and batch-norm statistics; faster at first, to leave the start."""
        decay = min(self.decay, steps / (steps + 10))
        for slow, fast in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - decay)
            else:
                slow.copy_(fast)
