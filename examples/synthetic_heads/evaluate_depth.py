"""Evaluate depth against the ground truth of synthetic_heads.py, within the head and up to one factor per frame.

    python examples/synthetic_heads/evaluate_depth.py --data heads --weights runs/depth

WEIGHTS is the output folder of train_depth.py, or any weights with a depth network. Two baselines that do not use
the image are listed beside it: constant depth, and the mean head of the train split.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthaware import SelfSupDepthNet, metrics
from depthaware.data import read_clip
from depthaware.geometry import disparity_to_depth
from depthaware.media.image import to_uint8, write_image
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Weights and clips."""

    data: str = option("heads", "output folder of synthetic_heads.py")
    weights: str = option("dagan-tiny", "output folder of train_depth.py, or DaGAN weights")
    split: str = option("test", "split of the clips")
    every: int = option(5, "use every n-th frame")
    sheet: str | None = option(
        "depth_sheet.png", "image with frame, truth and prediction of the middle frame of some clips"
    )
    threads: int = option(2, "threads of the CPU")


class Truth(NamedTuple):
    """Frames of a clip with known depth.

    Attributes:
        images: (T, 3, S, S) in [0, 1].
        depth: (T, 1, S, S), meters.
        mask: (T, 1, S, S), True on the head.
    """

    images: Tensor
    depth: Tensor
    mask: Tensor


class Scores(NamedTuple):
    """Means over frames, in the head; see `depthaware.metrics`.

    Attributes:
        abs_rel: mean relative error; lower is better.
        rmse: root mean square error in meters; lower is better.
        delta: share of pixels within a factor of 1.25; higher is better.
        ordinal: share of pixel pairs in the right order; higher is better, chance is one half.
        spearman: rank correlation in [-1, 1]; higher is better, 0 for constant depth.
    """

    abs_rel: float
    rmse: float
    delta: float
    ordinal: float
    spearman: float


def read_truth(data: Path, split: str, every: int = 1) -> Iterator[Truth]:
    """Yield the clips of a split."""
    with open(data / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "clip" and row["split"] == split]
    if not rows:
        raise ValueError(f"{data}: has no clip in the split {split!r}")
    for row in rows:
        path = data / split / "clips" / row["name"]
        with np.load(path.with_suffix(".npz")) as truth:
            depth, mask = (torch.from_numpy(truth[name][::every])[:, None] for name in ("depth", "mask"))
        frames = torch.from_numpy(read_clip(path.with_suffix(".mp4"), depth.shape[-1], every))
        if len(frames) != len(depth):
            raise ValueError(f"{path}: has {len(frames)} frames and {len(depth)} depth maps, expected as many")
        yield Truth(frames.permute(0, 3, 1, 2).float() / 255, depth.float(), mask)


@torch.no_grad()
def predict(depth_net: SelfSupDepthNet, images: Tensor, batch: int = 16) -> Tensor:
    """Predict depth (T, 1, S, S) of frames (T, 3, S, S), which are resized to the size of the network."""
    disparities = [depth_net(_fit(some, depth_net.image_size), num_scales=1)[0] for some in images.split(batch)]
    disparity = _fit(torch.cat(disparities), images.shape[-1])
    near, far = depth_net.depth_range
    return disparity_to_depth(disparity, min_depth=near, max_depth=far)


def _fit(image: Tensor, size: int) -> Tensor:
    return F.interpolate(image, (size, size), mode="bilinear", antialias=True)


def mean_head(truths: list[Truth]) -> Tensor:
    """Mean depth of heads at every pixel, (1, 1, S, S), each relative to its own median; 1 where there was none."""
    total, count = torch.zeros(2, 1, *truths[0].depth.shape[1:])
    for truth in truths:
        for depth, mask in zip(truth.depth, truth.mask, strict=True):
            total += torch.where(mask, depth / depth[mask].median(), 0.0)
            count += mask
    return torch.where(count > 0, total / count.clamp_min(1), 1.0)


def score(predictions: list[Tensor], truths: list[Truth]) -> Scores:
    """Score depth maps (T, 1, S, S) of each clip against its truth."""
    arguments = [(p, t.depth, t.mask) for p, t in zip(predictions, truths, strict=True)]
    broken = torch.cat([(mask & ~guess.isfinite()).flatten(1).any(1) for guess, _, mask in arguments])
    if broken.any():  # the means below would leave these frames out
        raise ValueError(f"depth: {broken.sum()} of {len(broken)} predicted maps are not finite, expected none")
    functions = (metrics.abs_rel, metrics.depth_rmse, metrics.delta, metrics.ordinal_accuracy, metrics.spearman)
    frames = [torch.cat([function(*clip) for clip in arguments]) for function in functions]
    frames[-1] = frames[-1].nan_to_num(0.0)  # a constant has no order
    return Scores(*(values.nanmean().item() for values in frames))


def draw_sheet(path: Path, predictions: list[Tensor], truths: list[Truth], rows: int = 6) -> None:
    """Write frame, truth and prediction side by side, from white at the nearest point of the true head to black."""
    sheet = []
    for prediction, truth in list(zip(predictions, truths, strict=True))[:rows]:
        i = len(truth.depth) // 2
        mask, depth = truth.mask[i], truth.depth[i]
        guess = metrics.median_scale(prediction[i, None], depth[None], mask[None])[0]
        near, far = depth[mask].min(), depth[mask].max()
        maps = [((far - d) / (far - near)).clamp(0, 1).expand(3, -1, -1) for d in (depth, guess)]
        sheet.append(torch.cat((truth.images[i], *maps), dim=2))
    write_image(path, to_uint8(torch.cat(sheet, dim=1)[None])[0])


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    depth_net, data = SelfSupDepthNet.from_pretrained(options.weights), Path(options.data)
    truths = list(read_truth(data, options.split, options.every))
    prior = mean_head(list(read_truth(data, "train", options.every)))
    predictions = [predict(depth_net, truth.images) for truth in truths]
    print(f"{len(truths)} clips, {sum(len(truth.depth) for truth in truths)} frames of {options.data}, {options.split}")
    print(f"{'':24}" + "".join(f"{name:>10}" for name in Scores._fields))
    for name, depths in (
        (Path(options.weights).name, predictions),
        ("the same everywhere", [torch.ones_like(truth.depth) for truth in truths]),
        ("the mean head", [prior.expand_as(truth.depth) for truth in truths]),
    ):
        print(f"{name:24}" + "".join(f"{value:10.4f}" for value in score(depths, truths)), flush=True)
    if options.sheet:
        draw_sheet(Path(options.sheet), predictions, truths)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
