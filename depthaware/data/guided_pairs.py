"""Pairs of frames with landmarks, chosen by expression."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augment import ColorMap, move, random_color_map, random_placement
from .clips import Clips
from .landmarks import MIRRORED, Landmarks, choose_pair
from .pairs import Rng, draw_frames


class GuidedPairs(Dataset):
    """Endless dataset of pairs with landmarks, chosen by expression: see [`choose_pair`][depthaware.data.choose_pair].

    Sample `index` depends on the seed and the index alone, as in [`FramePairs`][depthaware.data.FramePairs]; clips
    without landmarks are dropped likewise.

    A sample is ``(source, driving, landmarks_source, landmarks_driving)``, images as in `FramePairs`, landmarks
    float32 (68, 2) in [-1, 1].

    Args:
        clips: source of the frames.
        landmarks: of these clips.
        seed: another seed gives other samples.
        candidates: number of driving frames drawn where the pair is no event.
        shares: of events in the opening of the mouth, its width, and the opening of the eyes.
        augment: as in `FramePairs`; moreover half of the pairs are turned, moved and scaled, identically.

    Raises:
        ValueError: if a share is negative or they exceed 1 together; when a sample is read, if no clip is usable.
    """

    def __init__(
        self,
        clips: Clips,
        landmarks: Landmarks,
        *,
        seed: int = 0,
        candidates: int = 4,
        shares: Sequence[float] = (0.1, 0.1, 0.22),
        augment: bool = True,
    ) -> None:
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(f"shares: expected at least 0 and at most 1 together, got {tuple(shares)}")
        self.clips, self.landmarks, self.seed = clips, landmarks, seed
        self.candidates, self.shares, self.augment = candidates, shares, augment

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        chosen: list[np.ndarray] = []

        def choose(name: str, length: int, rng: Rng) -> np.ndarray:
            points, features = self.landmarks.read(name, length)
            pair = choose_pair(points, features, rng, shares=self.shares, candidates=self.candidates)
            chosen[:] = [points[list(pair)]]
            return self.clips.read(name, pair)

        frames, points = draw_frames(self.clips, rng, 2, choose), chosen[0]
        colors = ColorMap(np.eye(3), np.zeros(3))
        if self.augment:
            if rng.random() < 0.5:
                frames, points = frames[:, :, ::-1], points[:, MIRRORED] * np.array([-1, 1], np.float32)
            colors = random_color_map(rng, frames)
        images, landmarks = torch.from_numpy(colors(frames)), torch.from_numpy(np.ascontiguousarray(points))
        if self.augment and rng.random() < 0.5:
            images, landmarks = move(images, landmarks, random_placement(rng))
        return images[0], images[1], landmarks[0], landmarks[1]
