"""Stage 1: depth, pose and intrinsics from neighboring frames of video, without labels (Hong et al. 2022, section 3.2).

    python train_depth.py --data FOLDER --output runs/depth
    torchrun --nproc-per-node 8 train_depth.py --data FOLDER --output runs/depth --batch 64

Writes the moving average of the weights to OUTPUT, for train_dagan.py and `SelfSupDepthNet.from_pretrained`, beside
logs, validation sheets and checkpoints. The page on training says what each guard against flat and inside-out faces is
worth.
"""

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from depthaware.data.pairs import Clips, FrameTriples, batches
from depthaware.losses import flip_consistency_loss, self_supervised_depth_loss
from depthaware.media.image import to_uint8
from depthaware.training.ema import EMA
from depthaware.training.optimizer import trainable, warmup_cosine
from depthaware.training.options import check_choices, option, run_recipe
from depthaware.training.presets import preset_option, with_preset
from depthaware.training.run import Run
from depthaware.training.run_options import RESUMABLE, RunOptions, check_ranges
from depthaware.training.stage1 import Cameras, DepthStep, align_cameras, diagnostics, split_pose

# tiny: the sizes of dagan-tiny, what works on talking heads; paper: Hong et al. 2022 as far as it goes (section 3.2,
# two consecutive frames, eq. 5, one network for pose and intrinsics; section A.2, ResNet-18); where it states nothing
# (encoder_weights, near, far, learning_rate, smoothness, disparity_scales), Godard et al. 2019, which it follows.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "size": 128,
        "encoder_weights": "random",
        "max_gap": 12,
        "min_motion": 0.015,
        "neighbors": 2,
        "pose": "alignment",
        "near": 0.8,
        "far": 1.25,
        "learning_rate": 5e-4,
        "smoothness": 1e-2,
        "image_scales": 3,
        "disparity_scales": 1,
    },
    "paper": {
        "size": 256,
        "encoder_weights": "imagenet",
        "max_gap": 1,
        "min_motion": 0.0,
        "neighbors": 1,
        "pose": "network",
        "near": 0.1,
        "far": 100.0,
        "learning_rate": 1e-4,
        "smoothness": 1e-3,
        "image_scales": 1,
        "disparity_scales": 4,
    },
}


@dataclass(frozen=True)
class Options(RunOptions):
    """Options of stage 1."""

    output: str = option("runs/depth", "folder of the run; given the same folder again, an interrupted run is resumed")
    init: str | None = option(None, "folder of an earlier run whose weights are the start")
    preset: Literal["tiny", "paper"] = option(
        "tiny", "networks, which --init must fit, and defaults of the options that name both presets"
    )
    size: int | None = preset_option(PRESETS, "size", "side of the images, in pixels")
    images: int = option(12_000, "length of the run")
    clip: float = option(1.0, "largest norm of the gradient; 0 for any")
    encoder_weights: Literal["random", "imagenet"] | None = preset_option(
        PRESETS, "encoder_weights", "initial weights of the encoders; imagenet downloads those of timm"
    )
    max_gap: int | None = preset_option(PRESETS, "max_gap", "largest number of frames between neighbors")
    min_motion: float | None = preset_option(
        PRESETS, "min_motion", "difference in gray levels (of 1) that the nearest usable neighbor has; 0 for any gap"
    )
    neighbors: int | None = preset_option(
        PRESETS, "neighbors", "frames warped into each target: 1, the earlier one, or 2, of which the better counts"
    )
    pose: Literal["alignment", "network"] | None = preset_option(
        PRESETS, "pose", "alignment of pixels under the present depth, or a network that also learns intrinsics"
    )
    focal: float = option(1.6, "focal length for alignment, in sides of the image")
    near: float | None = preset_option(PRESETS, "near", "least depth, in units of about the distance of the face")
    far: float | None = preset_option(PRESETS, "far", "largest depth, in the same units")
    learning_rate: float | None = preset_option(PRESETS, "learning_rate", "highest learning rate")
    alpha: float = option(0.8, "weight of SSIM, against that of the absolute difference; the paper's eq. 5")
    smoothness: float | None = preset_option(PRESETS, "smoothness", "weight of the smoothness of disparity")
    image_scales: int | None = preset_option(
        PRESETS, "image_scales", "number of sizes, each half of the one before, at which images are compared"
    )
    disparity_scales: int | None = preset_option(PRESETS, "disparity_scales", "number of scales of the disparity")
    automask: bool = option(True, "leave out pixels that warping does not improve")
    flip_consistency: float = option(0.0, "weight of the difference to the disparity of the mirrored image")


def main(options: Options) -> None:
    options = resolve(options)
    run = Run(options)
    model = build(options)
    ema = EMA(model, options.ema).to(run.device)
    network = run.prepare(model)
    optimizer = torch.optim.Adam(trainable(network), fused=True)
    clips = Clips(options.data, options.size, hold_out=options.hold_out, cache_gb=options.cache_gb)
    triples = FrameTriples(clips, seed=options.seed, max_gap=options.max_gap, min_motion=options.min_motion)
    run.check_clips(clips, 3)
    done = run.resume({"model": model, "ema": ema, "optimizer": optimizer}, clips.names)
    validation = held_out_triples(options) if run.main else ()
    for images, parts in run.batches(triples, done):
        metrics: dict[str, float] = {}
        for i, ((earlier, target, later), _) in enumerate(parts):
            with run.no_sync_unless_last(network, last=i == len(parts) - 1):
                neighbors = (earlier, later)[: options.neighbors]
                # All pairs in one pass: the batch norms of a second one would count them twice.
                pairs = torch.cat((earlier, target)[: len(neighbors)]), torch.cat((target, later)[: len(neighbors)])
                mirrored = target.flip(3) if options.flip_consistency else target[:0]
                disparities, pose = network(torch.cat((target, mirrored)), pairs)
                disparities, flipped = zip(*(d.tensor_split([len(target)]) for d in disparities), strict=True)
                if pose is None:
                    cameras = align(options, target, neighbors, disparities[0])
                else:
                    cameras = split_pose(pose, len(neighbors))
                terms = {"reprojection": reprojection(options, target, neighbors, disparities, cameras)}
                if options.flip_consistency:
                    terms["flip"] = options.flip_consistency * flip_consistency_loss(disparities[0], flipped[0])
                metrics = run.backward(terms, images)
        rate = warmup_cosine(options.learning_rate, images, options.images, warmup=20 * options.batch)
        metrics["gradient"] = run.step(network, optimizer, rate, images)
        ema.update(model, images // options.batch)
        if run.due(options.log_every, images):
            depths = options.near, options.far
            run.log(images, metrics | diagnostics(target, neighbors, disparities[0], cameras, *depths))
        if run.due(options.sample_every, images):
            validate(run, images, ema.network, validation)
        if run.due(options.checkpoint_every, images):
            if run.main:
                ema.network.save(
                    run.folder.path, card=card(options)
                )  # before the checkpoint: nothing is repeated after the last one
            run.checkpoint(images)
    run.finish(run.folder.path, model.files())


def resolve(options: Options) -> Options:
    """Fill in the values of the preset, and check them.

    Raises:
        ValueError: if one is out of range.
    """
    check_choices(options)
    options = with_preset(options, PRESETS[options.preset])
    check_ranges(options)
    if options.size >> (options.image_scales - 1) < 2:
        raise ValueError(
            f"--image-scales: expected the smallest image to be 2 pixels or more, got {options.image_scales} scales of "
            f"--size {options.size}"
        )
    return options


def build(options: Options) -> DepthStep:
    """New networks, or those of an earlier run."""
    torch.manual_seed(options.seed)
    model = DepthStep(
        options.preset,
        pretrained=options.encoder_weights == "imagenet",
        learn_pose=options.pose == "network",
        num_scales=options.disparity_scales,
        image_size=options.size,
        depth_range=[options.near, options.far],
    )
    if options.init is not None:
        model.load(Path(options.init), "--init ")
    return model


def align(options: Options, target: Tensor, neighbors: tuple[Tensor, ...], disparity: Tensor) -> Cameras:
    depths = dict(min_depth=options.near, max_depth=options.far)
    return align_cameras(target, neighbors, disparity, focal=options.focal, **depths)


def reprojection(
    options: Options,
    target: Tensor,
    neighbors: tuple[Tensor, ...],
    disparities: tuple[Tensor, ...],
    cameras: Cameras,
) -> Tensor:
    """The loss of stage 1."""
    return self_supervised_depth_loss(
        target,
        neighbors,
        disparities,
        *cameras,
        alpha=options.alpha,
        smoothness=options.smoothness,
        automask=options.automask,
        num_image_scales=options.image_scales,
        min_depth=options.near,
        max_depth=options.far,
    )


def held_out_triples(options: Options) -> tuple[Tensor, ...]:
    """Six triples of persons who are not trained on, unless none were held out."""
    clips = Clips(options.data, options.size, hold_out=options.hold_out, held_out=options.hold_out > 0, cache_gb=0)
    return next(batches(FrameTriples(clips, max_gap=options.max_gap, augment=False), 6, stop=6))


@torch.no_grad()
def validate(run: Run, images: int, model: DepthStep, triples: tuple[Tensor, ...]) -> None:
    """Write a sheet: three frames, and the disparity of the middle one."""
    if not run.main:
        return
    disparity = model.depth_net(triples[1].to(run.device), num_scales=1)[0].cpu()
    low, high = disparity.flatten(1).quantile(torch.tensor([0.01, 0.99]), dim=1).view(2, -1, 1, 1, 1)
    columns = [*triples, ((disparity - low) / (high - low)).clamp(0, 1).expand(-1, 3, -1, -1)]
    run.folder.sheet(images, np.vstack(np.concatenate([to_uint8(column) for column in columns], axis=2)))


def card(options: Options) -> str:
    """A model card with the facts that the recipe knows; the publisher of the weights adds the rest."""
    made_by = {name: value for name, value in dataclasses.asdict(options).items() if name not in RESUMABLE}
    made_by |= {} if options.init is None else {"init": Path(options.init).name}
    return f"""---
library_name: depthaware
tags: [depth-estimation, depth, dagan]
---

# {Path(options.output).name}

A face depth network (Hong et al., CVPR 2022, section 3.2) trained by `examples/train_depth.py` of depthaware
{version("depthaware")} with these options; load it with `SelfSupDepthNet.from_pretrained`:

```json
{json.dumps(made_by, indent=2)}
```

To be added before publication: the persons whose faces it was trained on and their permission, and the license.
"""


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
