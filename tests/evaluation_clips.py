"""Clips, extractors and calls that the tests of evaluation share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from torch import Tensor

from depthaware.cli.main import main
from depthaware.evaluation import EXPRESSION, METRICS
from depthaware.media.image import write_image
from depthaware.media.video import read_video
from depthaware.metrics import bootstrap_interval

IMAGES = ("ssim", "psnr", "l1")
ALL = tuple(name for name in METRICS if name not in ("ms_ssim", "lpips", *EXPRESSION))
SMALL = ("--metrics", "l1,psnr,ssim", "--batch-size", "2")


class Stand:
    """In the place of a detector: linear features of the image; no face where the image is dark."""

    def __init__(self, *shape: int, binary: bool = False) -> None:
        self.name, self.shape, self.binary = f"stand-in {shape}", shape, binary

    def __call__(self, images: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, 3 * images.shape[-1] * math.prod(self.shape))
        features = images.mean(2).flatten(1).cpu() @ torch.cos(97 * grid).view(-1, math.prod(self.shape))
        features = (features > 0).float() if self.binary else features
        features[images.mean((1, 2, 3)).cpu() < 0.2] = torch.nan
        return features.view(-1, *self.shape)


STANDS = {
    "landmarks": Stand(68, 2),
    "identity": Stand(16),
    "pose": Stand(3),
    "expression": Stand(3),
    "action-units": Stand(5, binary=True),
}


def load_stand_in(kind: str, name: str | None = None, device: str = "cpu") -> Stand:
    """In the place of `depthaware.extractors.load`."""
    return STANDS[kind]


@contextmanager
def quick_reports() -> Iterator[None]:
    """Fewer draws for each interval and fewer rows in each contact sheet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("depthaware.evaluation.report.bootstrap_interval", partial(bootstrap_interval, draws=50))
        patch.setattr("depthaware.evaluation.sheet._ROWS", 1)
        yield


def noise_clip(path: Path, frames: int, seed: int, size: tuple[int, int] = (64, 64), light: float = 1) -> Path:
    """A clip in which everything moves."""
    cells = np.random.default_rng(seed).integers(0, int(255 * light), (frames, 4, 4, 3), "u1")
    images = [draw_image(i, size) // 2 + np.resize(cells[i], (*size, 3)) // 2 for i in range(frames)]
    return make_clip(path, frames, size, images=images)


def write_clips(folder: Path) -> Path:
    """Four clips of three persons, one of frames, one of another size; the manifest also names a training clip."""
    (folder / "test").mkdir()
    for i, frames in enumerate((7, 5, 6)):
        noise_clip(folder / "test" / f"clip{i}.mp4", frames, i, (64, 64) if i else (48, 80))
    (folder / "clip3").mkdir()
    for i, frame in enumerate(read_video(folder / "test" / "clip0.mp4")):
        write_image(folder / "clip3" / f"f_{i + 8}.png", 255 - frame.image)
    rows = [f"clip{i},clip,test,person{i % 3}" for i in range(4)] + ["other,clip,train,x", "face,portrait,test,y"]
    (folder / "manifest.csv").write_text("\n".join(["name,kind,split,identity", *rows]) + "\n")
    return folder


def run(data: Path, weights: str, output: str | Path = "report", *options: str, protocol: str = "same-identity") -> int:
    given = ["--weights", weights, "--data", str(data), "--protocol", protocol, "--output", str(output)]
    return main(["evaluate", *given, *options])


def report(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in ("pairs.csv", "report.json", "report.md", "sheet.png")}
