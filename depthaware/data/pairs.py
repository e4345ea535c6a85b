"""Random samples of training clips, each a function of (seed, index) alone, and batches of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .augment import ColorMap, random_color_map
from .clips import Clips, read_clip

__all__ = ["Clips", "FramePairs", "FrameTriples", "batches", "read_clip"]

Rng = np.random.Generator


class FramePairs(Dataset):
    """Endless pairs of a source and a driving frame of one clip.

    Sample `index` is drawn by ``np.random.default_rng([seed, index])`` alone: a person with equal chance, one of their
    clips, then two different frames, all alike likely. So it is the same whatever was read before, on any rank and in
    any worker, and a run resumes by starting at a later index. Clips that cannot be read are drawn again.

    Args:
        clips: where the frames come from.
        seed: for other samples.
        candidates: of so many drivers the one that differs most from the source is kept: most pairs of a talking head
            hardly move, and teach little.
        augment: flip every other pair, and change its colors, alike for both frames (see `random_color_map`).
    """

    def __init__(self, clips: Clips, *, seed: int = 0, candidates: int = 1, augment: bool = True) -> None:
        if candidates < 1:
            raise ValueError(f"candidates: expected at least 1, got {candidates}")
        self.clips, self.seed, self.candidates, self.augment = clips, seed, candidates, augment

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        source, driving = _to_tensors(_draw(self.clips, rng, 2, self._choose), rng, self.augment)
        return source, driving

    def _choose(self, name: str, length: int, rng: Rng) -> np.ndarray:
        source = int(rng.integers(length))
        drivers = (source + rng.integers(1, length, self.candidates)) % length
        frames = self.clips.read(name, [source, *drivers.tolist()])
        return frames if len(frames) == 2 else frames[[0, 1 + int(_motion(frames[0], frames[1:]).argmax())]]


class FrameTriples(Dataset):
    """Endless triples of a frame and an earlier and a later one.

    Drawn like `FramePairs`, with the same law. Without `min_motion` both are equally far away, 1 to `max_gap` frames.

    Args:
        clips: where the frames come from.
        seed: for other samples.
        max_gap: in frames.
        min_motion: if positive, take on either side the nearest frame whose mean absolute difference to the middle one
            (gray in [0, 1], at an eighth of the size) reaches this, else the one that differs most. A small baseline
            lets the pose collapse.
        augment: as in `FramePairs`; and half of all triples run backwards.
    """

    def __init__(
        self, clips: Clips, *, seed: int = 0, max_gap: int = 4, min_motion: float = 0.0, augment: bool = True
    ) -> None:
        if max_gap < 1:
            raise ValueError(f"max_gap: expected at least 1, got {max_gap}")
        self.clips, self.seed, self.max_gap, self.min_motion, self.augment = clips, seed, max_gap, min_motion, augment

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        frames = _draw(self.clips, rng, 3, self._moved if self.min_motion > 0 else self._evenly)
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
        """Number of the first frame that moved enough from frame 0, or of the one that moved most."""
        motion = _motion(frames[0], frames[1:])
        enough = np.flatnonzero(motion >= self.min_motion)
        return 1 + int(enough[0] if len(enough) else motion.argmax())


def _draw(clips: Clips, rng: Rng, least: int, choose: Callable[[str, int, Rng], np.ndarray]) -> np.ndarray:
    """Frames (n, S, S, 3) of the first clip drawn that can be read."""
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
    raise clips.nothing_left(failed)


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
    """This rank's parts of the whole batches of samples `start` to `stop`.

    Step k of all ranks together is made of the samples from start + k batch on, of which each rank has a contiguous
    part; what is left over at the end makes no batch.

    Args:
        dataset: `FramePairs` or `FrameTriples`.
        batch: samples in a step, of all ranks together.
        start: the first sample.
        stop: the end, not included.
        rank: of this process.
        world: number of processes.
        workers: processes that read ahead for this one; they share out `cache_gb`.

    Raises:
        ValueError: if a batch cannot be shared out evenly; later, if no clip can be used.
    """
    if batch < 1 or batch % world:
        raise ValueError(f"batch: expected a multiple of the {world} processes, got {batch}")
    share = batch // world
    firsts = range(start + rank * share, stop - batch + rank * share + 1, batch)
    loader = DataLoader(
        dataset,
        batch_sampler=(list(range(first, first + share)) for first in firsts),
        num_workers=workers,
        worker_init_fn=_share_cache,
        generator=torch.Generator(),  # else a number is drawn from the recipe's, and a resumed run goes another way
        pin_memory=torch.cuda.is_available(),
    )
    return _one_line(loader)


def _one_line(loader: DataLoader) -> Iterator[tuple[Tensor, ...]]:
    try:
        yield from map(tuple, loader)
    except ValueError as error:
        if "in DataLoader worker process" not in str(error):
            raise
        # A worker sends its whole traceback as the message.
        raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None


def _share_cache(_: int) -> None:
    worker: Any = get_worker_info()
    worker.dataset.clips.cache_gb /= worker.num_workers
