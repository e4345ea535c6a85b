"""Training clips in memory: frame pairs and triples of persons drawn with equal chance."""

import argparse
import csv
import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import torch
from torch import Tensor

Options = TypeVar("Options")


def parse(options: type[Options], description: str | None) -> Options:
    """Command-line flags from the fields of a dataclass; their defaults and types are the dataclass's."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        flag = "--" + field.name.replace("_", "-")
        how: dict[str, Any] = {"type": type(field.default)}
        if isinstance(field.default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(flag, default=field.default, help=field.metadata.get("help", " "), **how)
    return options(**vars(parser.parse_args()))


def read_clip(path: Path, size: int, every: int = 1) -> np.ndarray:
    """Every `every`-th frame of a clip, area-averaged to (T, size, size, 3) uint8."""
    frames = []
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                small = frame.reformat(width=size, height=size, format="rgb24", interpolation="AREA")
                frames.append(small.to_ndarray())
    return np.stack(frames)


class Clips:
    """Clips of one split of a folder with `manifest.csv` (name, kind, split, identity) and `<split>/clips/*.mp4`.

    Args:
        folder: the data.
        size: side of the frames.
        split: "train" or "test".
        every: keep every n-th frame, to save memory.
        hold_out: leave out this many identities (the last by name), to validate on.
        held_out: load those identities instead of the others.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        split: str = "train",
        every: int = 1,
        hold_out: int = 0,
        held_out: bool = False,
    ) -> None:
        with open(folder / "manifest.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["kind"] == "clip" and row["split"] == split]
        identities = sorted({row["identity"] for row in rows})
        cut = len(identities) - hold_out
        chosen = set(identities[cut:] if held_out else identities[:cut])
        self.by_identity: dict[str, list[np.ndarray]] = defaultdict(list)
        self.names: dict[str, np.ndarray] = {}
        for row in rows:
            if row["identity"] in chosen:
                clip = read_clip(folder / split / "clips" / f"{row['name']}.mp4", size, every)
                self.by_identity[row["identity"]].append(clip)
                self.names[row["name"]] = clip
        self.identities = sorted(self.by_identity)

    def pairs(self, batch: int, rng: np.random.Generator, candidates: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (source, driving) batches (B, 3, S, S) in [0, 1] from one clip each.

        Of `candidates` drivers the one that differs most from the source is kept: most pairs of a talking head hardly
        move, and teach little.
        """
        while True:
            yield _jitter(*self._stack([self._pair(rng, candidates) for _ in range(batch)], rng), rng=rng)

    def triples(self, batch: int, rng: np.random.Generator, max_gap: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Endless (earlier, target, later) batches, 1 to `max_gap` frames apart; a larger gap means more parallax."""
        while True:
            yield _jitter(*self._stack([self._triple(rng, max_gap) for _ in range(batch)], rng), rng=rng)

    def _clip(self, rng: np.random.Generator) -> np.ndarray:
        clips = self.by_identity[self.identities[rng.integers(len(self.identities))]]
        return clips[rng.integers(len(clips))]

    def _pair(self, rng: np.random.Generator, candidates: int) -> list[np.ndarray]:
        clip = self._clip(rng)
        source = clip[rng.integers(len(clip))]
        drivers = [clip[i] for i in rng.integers(len(clip), size=candidates)]
        coarse = source[::8, ::8].astype(np.int16)
        return [source, max(drivers, key=lambda frame: np.abs(coarse - frame[::8, ::8]).mean())]

    def _triple(self, rng: np.random.Generator, max_gap: int) -> list[np.ndarray]:
        clip = self._clip(rng)
        gap = int(rng.integers(1, min(max_gap, (len(clip) - 1) // 2) + 1))
        middle = int(rng.integers(gap, len(clip) - gap))
        return [clip[middle - gap], clip[middle], clip[middle + gap]]

    @staticmethod
    def _stack(samples: list[list[np.ndarray]], rng: np.random.Generator) -> list[Tensor]:
        flip = rng.random(len(samples)) < 0.5
        groups = zip(*([f[:, ::-1] if flip[i] else f for f in frames] for i, frames in enumerate(samples)), strict=True)
        return [torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2).float() / 255 for group in groups]


def _jitter(*frames: Tensor, rng: np.random.Generator, strength: float = 0.1) -> Any:
    """Brightness, contrast and saturation of each sample by up to `strength`, alike for its frames."""
    batch = len(frames[0])
    brightness, contrast, saturation = torch.from_numpy(
        rng.uniform(1 - strength, 1 + strength, (3, batch, 1, 1, 1))
    ).float()
    mean = frames[0].mean((1, 2, 3), keepdim=True)
    result = []
    for frame in frames:
        frame = (frame - mean) * contrast + mean * brightness
        grey = frame.mean(1, keepdim=True)
        result.append(((frame - grey) * saturation + grey).clamp(0, 1))
    return tuple(result)
