"""Talking heads whose depth, pose and camera are known: clips to train depth on and to measure it with.

    python examples/synthetic_heads/synthetic_heads.py --output heads --clips 40

Makes a folder as the training recipes read it, with one person per clip: OUTPUT/manifest.csv, and in
OUTPUT/<split>/clips for each NAME

    NAME.mp4   H.264, a key frame every 12 frames
    NAME.npz   depth      (T, S, S) float32, z in the camera's frame, meters
               mask       (T, S, S) bool, the head: face, ears and hair, but no neck
               K          (3, 3), pixels, whose centers are integers (docs/conventions.md)
               pose       (T, 4, 4), from the head's own frame to the camera's, meters
               mouth      (T,), opening of the jaw, meters
               blink      (T,), 0 = eyes open, 1 = shut

The head moves rigidly by `pose`, except for the lower face while `mouth` is open, and for the eyes. The camera, the
room and the body do not move. Everything follows from the seed.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from head_renderer import Stage
from head_shape import Expression
from torch import Tensor

from depthaware.geometry import pose_matrix
from depthaware.media.atomic import whole_file
from depthaware.training.options import option, run_recipe

RATE = 25


@dataclass(frozen=True)
class Options:
    """Number and kind of the clips."""

    output: str = option("heads", "folder for the clips")
    clips: int = option(40, "number of clips, each of another person")
    frames: int = option(60, "number of frames of a clip, at 25 a second")
    size: int = option(128, "side of the frames in pixels, a multiple of 4 from 64 on")
    seed: int = option(0, "seed of everything that is random")
    test_share: float = option(0.2, "share of the persons in the test split, 0 to 1")
    rotation: float = option(25.0, "largest turn of the heads, in degrees; they nod half and tilt a third as far")
    translation: float = option(0.03, "largest sway of the heads, in meters")
    speech: float = option(1.0, "opening of the mouths, 0 for shut")
    blinks: float = option(1.0, "closing of the eyes when they blink, 0 for never")
    samples: int = option(2, "rays per pixel and direction: 1 is quick, 2 smooth")
    threads: int = option(2, "threads of the CPU")


class Motion(NamedTuple):
    """Motion of a head over T frames.

    Attributes:
        pose: (T, 4, 4), head to camera.
        mouth: (T,), meters.
        blink: (T,), 0 to 1.
    """

    pose: Tensor
    mouth: np.ndarray
    blink: np.ndarray


class RenderedClip(NamedTuple):
    """A rendered clip of T frames with its ground truth.

    Attributes:
        images: (T, S, S, 3), uint8.
        depth: (T, S, S), meters.
        mask: (T, S, S), True on the head.
        K: (3, 3), pixels.
        motion: of the head.
    """

    images: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    K: Tensor
    motion: Motion


def draw_camera(rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """Draw a camera K (3, 3) and the place (3,) of a head at rest, which fills about half of the image."""
    focal, field = rng.uniform(1.3, 2.2), rng.uniform(0.38, 0.46)
    center = (size - 1) * (0.5 + rng.uniform(-0.04, 0.04, 2))
    K = torch.tensor([[focal * size, 0, center[0]], [0, focal * size, center[1]], [0, 0, 1]])
    place = torch.tensor([*rng.uniform(-0.02, 0.02, 2), focal * field])
    return K.float(), place.float()


def draw_motion(rng: np.random.Generator, place: Tensor, options: Options) -> Motion:
    """Draw slow turns around the neck, openings of the jaw in phrases, and blinks."""
    frames, degree = options.frames, math.radians(1) * options.rotation
    angles = _sway(rng, frames, 3) * (0.5 * degree, degree, 0.35 * degree)  # around x (nod), y (turn), z (tilt)
    turn = pose_matrix(torch.from_numpy(angles), torch.zeros(frames, 3).double())
    neck = torch.tensor([0, 0.09, 0.03]).double()
    sway = torch.from_numpy(_sway(rng, frames, 3) * options.translation * (1.0, 0.5, 1.0))
    turn[:, :3, 3] = place + sway + neck - turn[:, :3, :3] @ neck
    return Motion(turn.float(), 0.022 * options.speech * _speech(rng, frames), options.blinks * _blinks(rng, frames))


def _sway(rng: np.random.Generator, frames: int, degrees_of_freedom: int) -> np.ndarray:
    """(frames, n) smooth curves within [-1, 1]: two waves of 1.5 to 5 seconds each."""
    time = np.arange(frames)[:, None] / RATE
    period, phase = rng.uniform(1.5, 5, (2, degrees_of_freedom)), rng.uniform(0, 2 * np.pi, (2, degrees_of_freedom))
    waves = [np.sin(2 * np.pi * time / period[i] + phase[i]) for i in range(2)]
    return 0.65 * waves[0] + 0.35 * waves[1]


def _speech(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames,) in [0, 1]: syllables, 4 or so a second, in phrases with pauses."""
    time = np.arange(frames) / RATE
    syllable = np.sin(np.pi * (rng.uniform(3.5, 5) * time + rng.uniform()) + np.sin(7 * time)) ** 2
    phrase = np.sin(2 * np.pi * (time / rng.uniform(1.5, 3) + rng.uniform()))
    loudness = 0.75 + 0.25 * np.sin(11 * time + rng.uniform(0, 6))
    return syllable * loudness * np.clip(0.5 + 1.5 * phrase, 0, 1)


def _blinks(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames,) in [0, 1]: short blinks every 2 to 4 seconds, the first one within about a second."""
    blink, at = np.zeros(frames), rng.uniform(4, max(5, min(frames - 4, 1.5 * RATE)))
    while at < frames:
        blink = np.maximum(blink, np.clip(1.4 - np.abs(np.arange(frames) - round(at)) / 2.5, 0, 1))
        at += rng.uniform(2, 4) * RATE
    return blink


def render_clip(index: int, options: Options) -> RenderedClip:
    """Render the clip of an index; it does not depend on the other clips or on their number."""
    rng = np.random.default_rng([options.seed, index])
    K, place = draw_camera(rng, options.size)
    motion = draw_motion(rng, place, options)
    home = pose_matrix(torch.zeros(1, 3), place[None])[0]
    stage = Stage(rng, K, options.size, home, samples=options.samples)
    expressions = map(Expression, motion.mouth.tolist(), motion.blink.tolist())
    rendered = [stage.render(*frame) for frame in zip(motion.pose, expressions, strict=True)]
    images, depth, mask = (np.stack(arrays) for arrays in zip(*rendered, strict=True))
    return RenderedClip(images, depth, mask, K, motion)


def write_clip(folder: Path, name: str, clip: RenderedClip) -> None:
    """Write NAME.npz, then NAME.mp4."""
    with whole_file(folder / f"{name}.npz") as part, open(part, "wb") as file:
        truth = dict(pose=clip.motion.pose.numpy(), mouth=clip.motion.mouth, blink=clip.motion.blink)
        np.savez_compressed(file, depth=clip.depth, mask=clip.mask, K=clip.K.numpy(), **truth)
    with whole_file(folder / f"{name}.mp4") as part, av.open(str(part), "w", format="mp4") as output:
        # Not by `write_video`: for random access, key frames are frequent and there are no B-frames.
        stream = output.add_stream("libx264", rate=RATE, options={"crf": "12", "g": "12", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *clip.images.shape[1:3], "yuv420p"
        for image in clip.images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


def splits(options: Options) -> Iterator[tuple[str, str]]:
    """Yield name and split of every clip; the last persons are the test split."""
    first_test = options.clips - round(options.test_share * options.clips)
    for index in range(options.clips):
        yield f"head{index:04d}", "test" if index >= first_test else "train"


def check(options: Options) -> None:
    """Raise one line for an option that is out of range."""
    if options.size < 64 or options.size % 4:
        raise ValueError(f"--size: expected a multiple of 4 from 64 up, got {options.size}")
    if options.samples not in (1, 2):
        raise ValueError(f"--samples: expected 1 or 2, got {options.samples}")
    if not 0 <= options.test_share <= 1:
        raise ValueError(f"--test-share: expected 0 to 1, got {options.test_share}")
    if options.clips < 1 or options.frames < 1:
        raise ValueError(f"expected at least one clip of one frame, got {options.clips} of {options.frames}")


def main(options: Options) -> None:
    check(options)
    torch.set_num_threads(options.threads)
    output = Path(options.output)
    rows = list(splits(options))
    for index, (name, split) in enumerate(rows):
        folder = output / split / "clips"
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(folder, name, render_clip(index, options))
        print(f"{name} {split} {index + 1}/{len(rows)}", flush=True)
    with whole_file(output / "manifest.csv") as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "kind", "split", "identity"])
        writer.writerows([name, "clip", split, name] for name, split in rows)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
