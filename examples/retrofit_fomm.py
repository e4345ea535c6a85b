"""Depth for a trained FOMM: load it, retrofit, fine-tune it on clips, and measure it before and after.

    python retrofit_fomm.py --data FOLDER --checkpoint vox-adv-cpk.pth.tar --output runs/retrofit

Writes a folder for `depthaware.retrofit.fomm.load_retrofit` to OUTPUT.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from depthaware import SelfSupDepthNet
from depthaware.data.pairs import Clips, FramePairs, batches
from depthaware.losses import RandomTransform, equivariance_loss
from depthaware.retrofit.fomm import Retrofitted, keypoints, load_fomm, retrofit, save_retrofit
from depthaware.training.options import option, required, run_recipe
from depthaware.training.run_options import HOW_TO_GET_CLIPS, check_output, check_ranges
from depthaware.training.stage2 import pyramid_error


@dataclass(frozen=True)
class Options:
    """Options of the fine-tuning; durations are in images."""

    data: str = required("a folder of clips cropped around a head, with train and test split", HOW_TO_GET_CLIPS)
    checkpoint: str = required("a checkpoint of FOMM", "the authors of FOMM publish vox-adv-cpk.pth.tar")
    config: str | None = option(None, "FOMM's YAML file, to compare with the checkpoint")
    depth: str = option(
        "dagan-tiny",
        "weights whose depth network is used: a folder, of train_depth.py too, a bundled name, or a Hub id",
    )
    output: str = option("runs/retrofit", "folder of the result")
    size: int = option(256, "side of the images, in pixels")
    detector_images: int = option(2_000, "images that train the detector alone, before the generator follows")
    images: int = option(8_000, "images that train both")
    every: int = option(1, "every n-th frame of a test clip is measured")
    batch: int = option(4, "images of one optimizer step")
    candidates: int = option(2, "driving frames drawn, of which the one that differs most from the source is taken")
    learning_rate: float = option(2e-5, "of the trained weights, which 2e-4 would destroy")
    new_learning_rate: float = option(2e-4, "of the new weights, which start from nothing")
    seed: int = option(0, "seed of new weights, samples and augmentation")
    threads: int = option(2, "CPU threads")
    cpu: bool = option(False, "train on the CPU even if there is a GPU")
    dry_run: bool = option(False, "check everything, take one step, and write nothing")


def main(options: Options) -> None:
    check_ranges(options)
    check_output(options.output)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    if not options.dry_run:
        Path(options.output).mkdir(parents=True, exist_ok=True)  # fails before the work if it cannot be written
    device = "cuda" if torch.cuda.is_available() and not options.cpu else "cpu"
    networks = [net.to(device) for net in load_fomm(options.checkpoint, options.config)]
    kp_detector, generator = pair = retrofit(*networks, SelfSupDepthNet.from_pretrained(options.depth))
    pairs = FramePairs(Clips(options.data, options.size), seed=options.seed, candidates=options.candidates)
    if options.dry_run:
        return dry_run(pair, pairs, options)

    print(f"before: {quality(*pair, options)}", flush=True)
    # The rest stays in eval mode: the networks' own batch-norm statistics are better than those of a few clips.
    generator.depth_encoder.train()
    first, last = options.detector_images, options.detector_images + options.images
    train([kp_detector], pair, batches(pairs, options.batch, stop=first), options)
    train(pair, pair, batches(pairs, options.batch, start=first, stop=last), options)
    generator.eval()
    print(f"after: {quality(*pair, options)}", flush=True)
    save_retrofit(options.output, *pair, everything=True)


def dry_run(pair: tuple[Retrofitted, Retrofitted], pairs: FramePairs, options: Options) -> None:
    """Look for the test clips, and take one step."""
    Clips(options.data, options.size, split="test", cache_gb=0)
    train(pair, pair, batches(pairs, options.batch, stop=options.batch), options)
    print(f"dry run: one step of {options.batch} images went well; nothing was written")


def train(
    parts: Iterable[Retrofitted], pair: tuple[Retrofitted, Retrofitted], pairs: Iterable, options: Options
) -> None:
    """Train `parts` of the pair, with one learning rate for trained and one for new weights."""
    device = next(pair[1].parameters()).device
    groups = []
    for part in parts:
        groups.append({"params": part.trainable_parameters("new"), "lr": options.new_learning_rate})
        groups.append({"params": part.model.parameters(), "lr": options.learning_rate})
    optimizer = torch.optim.Adam(groups, betas=(0.5, 0.999))
    for step, (source, driving) in enumerate(pairs, 1):
        value = loss(*pair, source.to(device), driving.to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"images {step * options.batch}  loss {value.item():.4g}", flush=True)


def loss(kp_detector: nn.Module, generator: nn.Module, source: Tensor, driving: Tensor) -> Tensor:
    """Error of the prediction of the driving frame, and equivariance of key points."""
    transform = RandomTransform.sample(len(driving), device=driving.device)
    kp, kp_transformed = (keypoints(kp_detector(image)) for image in (driving, transform.warp_image(driving)))
    equivariance = equivariance_loss(kp, kp_transformed, transform)
    prediction = drive(kp_detector, generator, source, driving)
    return 10 * pyramid_error(prediction, driving) + equivariance.value + equivariance.jacobian


def drive(kp_detector: nn.Module, generator: nn.Module, source: Tensor, driving: Tensor) -> Tensor:
    """Prediction by FOMM's own calls, with or without depth."""
    return generator(source, kp_driving=kp_detector(driving), kp_source=kp_detector(source))["prediction"]


@torch.no_grad()
def quality(kp_detector: nn.Module, generator: nn.Module, options: Options) -> str:
    """L1 of the prediction and of a copy of the source, first frames driven by the others; means over test clips."""
    clips = Clips(options.data, options.size, split="test", cache_gb=0)
    device = next(generator.parameters()).device
    errors = []
    for name in clips.names:
        frames = torch.from_numpy(clips.read(name, range(0, clips.expect(name, 2), options.every))).permute(0, 3, 1, 2)
        sums = np.zeros(2)
        for driving in frames[1:].split(8):
            driving, source = (images.to(device) / 255 for images in (driving, frames[:1].expand_as(driving)))
            for i, image in enumerate((drive(kp_detector, generator, source, driving), source)):
                sums[i] += (image - driving).abs().mean((1, 2, 3)).sum().item()
        errors.append(sums / max(1, len(frames) - 1))
    ours, copied = np.mean(errors, axis=0)
    return f"L1 {ours:.4f}, copying the source {copied:.4f}: {100 * (1 - ours / copied):.1f} % lower"


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
