"""Same-person reconstruction: the first frame of each clip driven by the others, against merely copying it.

python examples/evaluate_reconstruction.py --data FOLDER --weights dagan-tiny
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from training_clips import Clips, parse

from depthaware import DaGAN


@dataclass(frozen=True)
class Options:
    """What is evaluated on what."""

    data: str = "../shared/faces"
    weights: str = "dagan-tiny"
    split: str = "test"
    every: int = 1  # look at every n-th frame


@torch.no_grad()
def reconstruction_error(
    model: DaGAN, clips: Mapping[str, np.ndarray], batch: int = 16
) -> dict[str, tuple[float, float]]:
    """Mean L1 of (model, copied source) in [0, 1] for each clip of (T, S, S, 3) uint8 frames."""
    errors = {}
    for name, clip in clips.items():
        if len(clip) < 2:
            continue
        source = model.encode_source(_tensor(clip[:1]))
        sums = np.zeros(2)
        for start in range(1, len(clip), batch):
            driving = _tensor(clip[start : start + batch])
            prediction = model.drive(source, model.detect_keypoints(driving))
            for i, guess in enumerate((prediction, source.image)):
                sums[i] += (guess - driving).abs().mean((1, 2, 3)).sum().item()
        errors[name] = tuple(sums / (len(clip) - 1))
    return errors


def summary(errors: Mapping[str, tuple[float, float]]) -> str:
    """Means over clips, and how far the model is below copying."""
    model, copy = np.mean(list(errors.values()), axis=0)
    return f"L1 {model:.4f}, copying the source {copy:.4f}: {100 * (1 - model / copy):.1f} % lower"


def _tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def main(options: Options) -> None:
    model = DaGAN.from_pretrained(options.weights)
    clips = Clips(Path(options.data), model.image_size, split=options.split, every=options.every).names
    errors = reconstruction_error(model, clips)
    for name, (ours, copied) in errors.items():
        print(f"{name:24} {ours:.4f} {copied:.4f}")
    print(f"{len(clips)} clips, {sum(map(len, clips.values()))} frames: {summary(errors)}")


if __name__ == "__main__":
    main(parse(Options, __doc__))
