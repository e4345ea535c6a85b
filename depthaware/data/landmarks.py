"""Facial landmarks of the frames of clips: found once, kept in files, read when pairs are chosen."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from ..extractors.protocols import LandmarkDetector
from ..media.atomic import whole_file
from ..media.image import to_tensor
from ..metrics import eye_opening, mouth_opening, mouth_width
from .clips import Clips

# The 68 points of the mirrored image: outline, brows, nose, eyes, outer and inner lips.
# As runs of falling numbers.
_RUNS = ((16, 0), (26, 17), *((n, n) for n in range(27, 31)), (35, 31), (45, 42), (47, 46), (39, 36), (41, 40))
_RUNS += ((54, 48), (59, 55), (64, 60), (67, 65))
MIRRORED = np.array([point for first, last in _RUNS for point in range(first, last - 1, -1)])
_BATCH = 16  # frames in memory at a time
_EVENT, _EYES = (0.08, 0.08, 0.1), 2  # range of a feature within a clip from which on it has events


def find_landmarks(clips: Clips, name: str, detector: LandmarkDetector, path: Path, *, every: int = 1) -> int:
    """Find the landmarks in the frames of a clip, and write them to a file that appears once it is complete.

    The file (npz) holds `landmarks`, float32 (T, 68, 2) in [-1, 1], NaN where no face was found and in frames that were
    left out; and `detector`, its name.

    Args:
        clips: source of the frames, at the size in which faces are searched.
        name: of the clip.
        detector: of the landmarks.
        path: of the file; its folder is made.
        every: the landmarks of every such frame are found, from the first one on.

    Returns:
        Number of frames with a face.

    Raises:
        ValueError: if the clip cannot be read.
    """
    found = np.full((clips.length(name), 68, 2), np.nan, np.float32)
    numbers = range(0, len(found), every)
    for first in range(0, len(numbers), _BATCH):
        some = list(numbers[first : first + _BATCH])
        images = torch.cat([to_tensor(frame) for frame in clips.read(name, some)])
        found[some] = detector(images).numpy() * 2 / (clips.size - 1) - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, open(part, "wb") as file:
        np.savez(file, landmarks=found, detector=detector.name)
    return int(np.isfinite(found[:, 0, 0]).sum())


class Landmarks:
    """Landmarks of clips, from the files of `find_landmarks` in a folder: NAME.npz of clip NAME.

    Args:
        folder: with the files.

    Attributes:
        detector: name of the detector that found them.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._clips: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        first = min(self.folder.glob("**/*.npz"), default=None)
        if first is None:
            hint = "make them with prepare_clips.py --landmarks"
            raise ValueError(f"landmarks {str(folder)!r}: expected a folder of .npz files, found none; {hint}")
        self.detector = str(_load(first)["detector"])

    def read(self, name: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the landmarks of a clip, and its expression.

        Args:
            name: of the clip.
            length: number of its frames.

        Returns:
            float32 (length, 68, 2), and (length, 3): opening of the mouth, its width, opening of the eyes; NaN where
            nothing is known.

        Raises:
            ValueError: if there is no file, or it does not fit.
        """
        if name not in self._clips:
            points = _load(self.folder / f"{name}.npz")["landmarks"]
            self._clips[name] = points, expression(points)
        points, features = self._clips[name]
        if points.shape != (length, 68, 2):
            raise ValueError(f"has landmarks of shape {points.shape}, expected {(length, 68, 2)}")
        return points, features


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in ("landmarks", "detector")}
    except (OSError, EOFError, BadZipFile, ValueError, KeyError) as error:
        raise ValueError(f"{path}: expected the landmarks of a clip, got {error}") from None


def expression(landmarks: np.ndarray) -> np.ndarray:
    """Opening and width of the mouth and opening of the eyes, as metrics define them: (T, 68, 2) -> (T, 3)."""
    points = torch.from_numpy(landmarks).double()
    return torch.stack([feature(points) for feature in (mouth_opening, mouth_width, eye_opening)], dim=1).numpy()


def choose_pair(
    landmarks: np.ndarray,
    features: np.ndarray,
    rng: np.random.Generator,
    *,
    shares: Sequence[float],
    candidates: int,
) -> tuple[int, int]:
    """Choose two frames of a clip that differ in expression.

    With a share of its own for each feature the pair is an event: a frame in which the mouth is most open or closed, or
    the eyes are most closed, of an eighth of the frames, against one of the others. Otherwise the driving frame is that
    of some candidates which differs most in expression and place. A clip in which nothing happens has no events.

    Args:
        landmarks: (T, 68, 2), NaN where unknown.
        features: (T, 3), see `expression`.
        rng: source of random numbers.
        shares: of events in the opening of the mouth, its width, and the opening of the eyes; at most 1 together.
        candidates: number of driving frames drawn.

    Returns:
        Numbers of the source and the driving frame.

    Raises:
        ValueError: if the landmarks of less than two frames are known.
    """
    known = np.flatnonzero(np.isfinite(features).all(1) & np.isfinite(landmarks).all((1, 2)))
    if len(known) < 2:
        raise ValueError(f"has landmarks in {len(known)} frames, expected at least 2")
    points, features = landmarks[known], features[known]
    feature = int(np.searchsorted(np.cumsum(shares), rng.random(), side="right"))
    if feature < len(shares):
        order, end = np.argsort(features[:, feature]), max(1, len(known) // 8)
        if np.ptp(features[:, feature]) > _EVENT[feature]:
            low = feature == _EYES or rng.random() < 0.5
            extreme, rest = (order[:end], order[end:]) if low else (order[-end:], order[:-end])
            pair = [int(known[rng.choice(some)]) for some in (extreme, rest)]
            first = int(rng.integers(2))
            return pair[first], pair[1 - first]
    source = int(rng.integers(len(known)))
    others = (source + rng.integers(1, len(known), candidates)) % len(known)
    change = np.minimum(np.abs(features[others] - features[source]) / 0.08, 2).sum(1)
    change = change + 15 * np.abs(points[others] - points[source]).mean((1, 2))
    return int(known[source]), int(known[others[change.argmax()]])
