"""Random samples of training clips, each a function of (seed, index) alone, and batches of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .augment import ColorMap, random_color_map
from .clips import Clips

Rng = np.random.Generator


class FramePairs(Dataset):
    """Endless dataset of pairs of a source and a driving frame of one clip.

    Sample `index` depends on ``np.random.default_rng([seed, index])`` alone, which draws an identity, one of its clips,
    and two different frames, each uniformly. So it does not depend on earlier reads, the rank or the worker, and a run
    resumes by starting at a later index. An unreadable clip is dropped and another one drawn.

    A sample is ``(source, driving)``, each float32 (3, S, S) in [0, 1], with S the size of `clips`.

    Args:
        clips: source of the frames.
        seed: another seed gives other samples.
        candidates: number of driving frames drawn, at least 1. The one that differs most from the source is kept, since
            most pairs of a talking head hardly move and contribute little to training.
        augment: flip half of the pairs, and change their colors, identically for both frames (see
            [`random_color_map`][depthaware.data.random_color_map]).

    Raises:
        ValueError: if `candidates` is less than 1; when a sample is read, if no clip is usable.
    """

    def __init__(self, clips: Clips, *, seed: int = 0, candidates: int = 1, augment: bool = True) -> None:
        if candidates < 1:
            raise ValueError(f"candidates: expected at least 1, got {candidates}")
        self.clips, self.seed, self.candidates, self.augment = clips, seed, candidates, augment

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        source, driving = _to_tensors(draw_frames(self.clips, rng, 2, self._choose), rng, self.augment)
        return source, driving

    def _choose(self, name: str, length: int, rng: Rng) -> np.ndarray:
        source = int(rng.integers(length))
        driving = (source + rng.integers(1, length, self.candidates)) % length
        frames = self.clips.read(name, [source, *driving.tolist()])
        return frames if len(frames) == 2 else frames[[0, 1 + int(_motion(frames[0], frames[1:]).argmax())]]


class FrameTriples(Dataset):
    """Endless dataset of triples of an earlier, a middle and a later frame of one clip.

    Sample `index` depends on the seed and the index alone, as in [`FramePairs`][depthaware.data.FramePairs]. Without
    `min_motion` the outer frames are equally far from the middle one, 1 to `max_gap` frames.

    A sample is ``(earlier, target, later)``, each float32 (3, S, S) in [0, 1], with S the size of `clips`.

    Args:
        clips: source of the frames.
        seed: another seed gives other samples.
        max_gap: largest distance to the middle frame, in frames, at least 1.
        min_motion: if positive, take on either side the nearest frame whose mean absolute difference from the middle
            one (gray in [0, 1], at an eighth of the size) reaches this, or the one that differs most. With a small
            baseline the pose network may collapse.
        augment: as in `FramePairs`; moreover half of the triples are reversed in time.

    Raises:
        ValueError: if `max_gap` is less than 1; when a sample is read, if no clip is usable.
    """

    def __init__(
        self, clips: Clips, *, seed: int = 0, max_gap: int = 4, min_motion: float = 0.0, augment: bool = True
    ) -> None:
        if max_gap < 1:
            raise ValueError(f"max_gap: expected at least 1, got {max_gap}")
        self.clips, self.seed, self.max_gap, self.min_motion, self.augment = clips, seed, max_gap, min_motion, augment

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        frames = draw_frames(self.clips, rng, 3, self._moved if self.min_motion > 0 else self._evenly)
        if self.augment and rng.random() < 0.5:
            frames = frames[::-1]
        earlier, target, later = _to_tensors(frames, rng, self.augment)
        return earlier, target, later

    def _evenly(self, name: str, length: int, rng: Rng) -> np.ndarray:
        gap = int(rng.integers(1, min(self.max_gap, (length - 1) // 2) + 1))
        target = int(rng.integers(gap, length - gap))
        return self.clips.read(name, [target - gap, target, target + gap])

    def _moved(self, name: str, length: int, rng: Rng) -> np.ndarray:
        target = int(rng.integers(1, length - 1))
        first = max(0, target - self.max_gap)
        window = self.clips.read(name, range(first, min(length, target + self.max_gap + 1)))
        middle = target - first
        before, after = self._nearest(window[middle::-1]), self._nearest(window[middle:])
        return window[[middle - before, middle, middle + after]]

    def _nearest(self, frames: np.ndarray) -> int:
        """Index of the first frame that differs enough from frame 0, or else of the one that differs most."""
        motion = _motion(frames[0], frames[1:])
        enough = np.flatnonzero(motion >= self.min_motion)
        return 1 + int(enough[0] if len(enough) else motion.argmax())


def draw_frames(clips: Clips, rng: Rng, least: int, choose: Callable[[str, int, Rng], np.ndarray]) -> np.ndarray:
    """Draw clips until one can be read, and return the frames (n, S, S, 3) chosen from it."""
    failed: dict[str, str] = {}
    identities = list(clips.by_identity)
    while len(failed) < len(clips.names):
        names = clips.by_identity[identities[rng.integers(len(identities))]]
        name = names[rng.integers(len(names))]
        try:
            return choose(name, clips.expect(name, least), rng)
        except (ValueError, OSError) as error:
            clips.drop(name, error)
            failed[name] = clips.reason(error)
    raise clips.no_usable_clip(failed)


def _motion(frame: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each of `others` from `frame`, (n,): gray in [0, 1], at an eighth of the size."""
    return np.abs(_coarse(others) - _coarse(frame[None])).mean(axis=(1, 2))


def _coarse(frames: np.ndarray) -> np.ndarray:
    block = min(8, frames.shape[1])
    side = frames.shape[1] // block
    gray = frames[:, : side * block, : side * block].reshape(-1, side, block, side, block * 3)
    return gray.mean(axis=(2, 4)) / 255


def _to_tensors(frames: np.ndarray, rng: Rng, augment: bool) -> tuple[Tensor, ...]:
    colors = ColorMap(np.eye(3), np.zeros(3))
    if augment:
        frames = frames[:, :, ::-1] if rng.random() < 0.5 else frames
        colors = random_color_map(rng, frames)
    return tuple(torch.from_numpy(colors(frames)))


def batches(
    dataset: Dataset, batch: int, *, start: int = 0, stop: int, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[tuple[Tensor, ...]]:
    """Iterate over this rank's share of the batches of samples `start` to `stop`.

    Step k of all ranks together consists of the `batch` samples from start + k batch on, of which each rank has a
    contiguous share; an incomplete last batch is left out.

    Args:
        dataset: `FramePairs`, `GuidedPairs` or `FrameTriples`.
        batch: samples in a step, of all ranks together; a multiple of `world`.
        start: index of the first sample.
        stop: end of the samples, exclusive.
        rank: of this process, from 0.
        world: number of processes.
        workers: processes that read ahead for this rank; `cache_gb` is divided among them.

    Yields:
        The frames of a step: for pairs source and driving, for triples earlier, target and later, each
        (batch / world, 3, S, S) in [0, 1]; for `GuidedPairs` also their landmarks, (batch / world, 68, 2).

    Raises:
        ValueError: if a batch cannot be divided evenly; while iterating, if no clip is usable.
    """
    if batch < 1 or batch % world:
        raise ValueError(f"batch: expected a multiple of the {world} processes, got {batch}")
    share = batch // world
    firsts = range(start + rank * share, stop - batch + rank * share + 1, batch)
    loader = DataLoader(
        dataset,
        batch_sampler=(list(range(first, first + share)) for first in firsts),
        num_workers=workers,
        worker_init_fn=_divide_cache,
        generator=torch.Generator(),  # else a number is drawn from the global generator, and a resumed run diverges
        pin_memory=torch.cuda.is_available(),
    )
    return _with_short_errors(loader)


def _with_short_errors(loader: DataLoader) -> Iterator[tuple[Tensor, ...]]:
    try:
        yield from map(tuple, loader)
    except ValueError as error:
        if "in DataLoader worker process" not in str(error):
            raise
        # A worker's message is its whole traceback, whose last line is the error.
        raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None


def _divide_cache(_: int) -> None:
    worker: Any = get_worker_info()
    worker.dataset.clips.cache_gb /= worker.num_workers
