"""Scene cuts, blinks and head poses found in real clips, against dlib's landmarks and against joined clips.

    python examples/benchmarks/measure_tracking.py --data CLIPS --identities manifest.csv

Each clip shows one scene, so a cut in it is a false alarm. Ends and starts of clips of different persons, joined, have
one cut. `manifest.csv` has the columns name and identity. An eye is closed where the eye aspect ratio (Soukupová and
Čech 2016) of dlib's landmarks is below 0.16 and below 0.62 of the clip's 80th percentile, open above 0.85 of that.
"""

import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata

from depthaware import read_video
from depthaware.extractors.dlib_faces import DlibLandmarks
from depthaware.extractors.head_pose import angles_from_rotation, rotation_from_landmarks
from depthaware.faces.detector import BlazeFaceDetector
from depthaware.faces.face import Face
from depthaware.faces.following import see
from depthaware.faces.pose import head_rotation
from depthaware.faces.scenes import Look, SceneCuts
from depthaware.faces.tracking import reference_frame
from depthaware.training.options import option, required, run_recipe

END = 20  # frames of a joined clip before the cut, and at most after it


@dataclass(frozen=True)
class Options:
    """Clips, and the part of them that is measured."""

    data: str = required("a folder of mp4 clips of one scene and one face each", "face crops of any data set will do")
    identities: str = option("", "table with the columns name and identity; without it, each clip is a person")
    every: int = option(1, "measure every so many of the clips")
    frames: int = option(60, "frames of each clip")
    pairs: int = option(3000, "pairs of clips that are joined")


class Measured(NamedTuple):
    """What is kept of a clip."""

    looks: list[Look | None]
    opened: np.ndarray  # (T,), openness of the eyes over its median
    aspect: np.ndarray  # (T,), eye aspect ratio by dlib over its 80th percentile; NaN without a face
    closed: np.ndarray  # (T,)
    errors: np.ndarray  # (T, 3), absolute differences of yaw, pitch and roll by six and by 68 points, in degrees
    reference: int | None


def eye_aspect(landmarks: np.ndarray) -> np.ndarray:
    """(T, 68, 2) -> (T,)."""
    p = landmarks[:, 36:48].reshape(-1, 2, 6, 2)
    length = np.linalg.norm(p[:, :, [1, 2, 0]] - p[:, :, [5, 4, 3]], axis=3)
    return ((length[..., 0] + length[..., 1]) / 2 / length[..., 2]).mean(axis=1)


def measure(path: Path, frames: int, detector: BlazeFaceDetector, landmarks: DlibLandmarks) -> Measured:
    """Track a clip, and find its landmarks."""
    images = [frame.image for frame in islice(read_video(path), frames)]
    seen = [see(image, faces) for image, faces in zip(images, detector(images), strict=True)]
    sights = [sight for sight, _ in seen]
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    points = landmarks(tensor).numpy()
    ratio, opened = eye_aspect(points), np.array([sight.measured[1] for sight in sights])
    top = np.nanquantile(ratio, 0.8) if np.isfinite(ratio).any() else np.nan
    known = np.array([bool(sight.faces) for sight in sights]) & np.isfinite(ratio)
    return Measured(
        [look for _, look in seen],
        opened / np.median(opened),
        np.where(known, ratio / top, np.nan),
        known & (ratio < 0.16) & (ratio < 0.62 * top),
        pose_errors([sights[i].faces[0] for i in np.flatnonzero(known)], points[known]),
        reference_frame(sights),
    )


def pose_errors(faces: list[Face], landmarks: np.ndarray) -> np.ndarray:
    """Absolute differences (T, 3) of yaw, pitch and roll."""
    if not faces:
        return np.zeros((0, 3))
    six = angles_from_rotation(torch.from_numpy(np.stack([head_rotation(face) for face in faces])))
    return (six - rotation_from_landmarks(torch.from_numpy(landmarks))).abs().numpy()


def count_cuts(looks: list[Look | None]) -> list[int]:
    """Indices of the frames at which a cut is confirmed."""
    cuts = SceneCuts()
    return [index for index, look in enumerate(looks) if cuts(look) == "cut"]


def join(a: Measured, b: Measured) -> tuple[list[Look | None], int] | None:
    """The end of one clip and the start of another, and where the cut is to be confirmed; None if a face is missing."""
    before, after = a.looks[-END:], b.looks[:END]
    if None in before or None in after or len(before) < 3:
        return None
    return before + after, len(before) + 2


def area_under_curve(high: np.ndarray, low: np.ndarray) -> float:
    """Chance that one of `high` is larger than one of `low`."""
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def report_cuts(clips: dict[str, Measured], persons: dict[str, str], pairs: int) -> None:
    """Print false and missed cuts."""
    frames = sum(len(clip.looks) for clip in clips.values())
    false = sum(len(count_cuts(clip.looks)) for clip in clips.values())
    random, joined, found = np.random.default_rng(0), 0, 0
    for a, b in random.choice(list(clips), (pairs, 2)):
        if persons.get(a, a) != persons.get(b, b) and (both := join(clips[a], clips[b])):
            joined, found = joined + 1, found + (count_cuts(both[0]) == [both[1]])
    print(
        f"scene cuts: {false} false in {frames} frames of {len(clips)} clips; {found} of {joined} joints found exactly"
    )


def report_eyes(clips: list[Measured]) -> None:
    """Print how well the openness of the eyes tells closed from open ones, in clips that have both."""
    blinking = [clip for clip in clips if clip.closed.sum() >= 2]
    opened = np.concatenate([clip.opened[clip.aspect > 0.85] for clip in blinking])
    closed = np.concatenate([clip.opened[clip.closed] for clip in blinking])
    print(f"eyes: area under the curve {area_under_curve(opened, closed):.3f}; at 0.95 of the median", end=" ")
    print(
        f"{(closed < 0.95).mean():.0%} of {len(closed)} closed refused, {(opened >= 0.95).mean():.0%} of {len(opened)}",
        end=" ",
    )
    print(f"open accepted ({len(blinking)} clips)")
    starts = [(clip.closed[clip.reference], clip.closed[0]) for clip in blinking if clip.reference is not None]
    chosen, first = np.sum(starts, axis=0)
    print(f"closed in the chosen reference frame of {chosen}, in the first frame of {first} of {len(starts)} clips")


def main(options: Options) -> None:
    """Measure and print."""
    paths = sorted(Path(options.data).rglob("*.mp4"))[options.every - 1 :: options.every]
    detector, landmarks = BlazeFaceDetector(), DlibLandmarks()
    clips = {path.stem: measure(path, options.frames, detector, landmarks) for path in paths}
    persons = {}
    if options.identities:
        with Path(options.identities).open(newline="") as file:
            persons = {row["name"]: row["identity"] for row in csv.DictReader(file)}
    report_cuts(clips, persons, options.pairs)
    report_eyes(list(clips.values()))
    errors = np.concatenate([clip.errors for clip in clips.values()])
    yaw, pitch, roll = errors.mean(axis=0)
    print(f"head pose: mean absolute difference yaw {yaw:.1f}, pitch {pitch:.1f}, roll {roll:.1f} degrees")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
