"""Depth for a trained FOMM: load it, retrofit, fine-tune it on clips, and measure it before and after.

    python examples/retrofit_fomm.py --data FOLDER --checkpoint vox-adv-cpk.pth.tar --output runs/retrofit

Writes a folder for `integrations.fomm.load_retrofit` to OUTPUT.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from train_dagan import pyramid_error

from depthaware import DaGAN
from depthaware.data.pairs import Clips, FramePairs, batches
from depthaware.losses import RandomTransform, equivariance_loss
from depthaware.training.options import run
from integrations.fomm import Retrofitted, keypoints, load_fomm, retrofit, save_retrofit


@dataclass(frozen=True)
class Options:
    """What is fine-tuned on what."""

    data: str = "../shared/faces"
    checkpoint: str = "vox-adv-cpk.pth.tar"
    config: str = ""  # FOMM's YAML file, to be compared with the checkpoint
    depth: str = "dagan-tiny"  # the weights whose depth network is taken
    output: str = "runs/retrofit"
    size: int = 256
    detector_images: int = 2_000  # for the detector alone, whose motion the generator then follows
    images: int = 8_000  # for both
    every: int = 1  # measure on every n-th frame
    batch: int = 4
    candidates: int = 2  # of so many driving frames the one that differs most from the source is taken
    learning_rate: float = 2e-5  # 2e-4 would destroy trained weights
    new_learning_rate: float = 2e-4  # of what is new, which starts from nothing
    seed: int = 0
    threads: int = 2


def main(options: Options) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    Path(options.output).mkdir(parents=True, exist_ok=True)  # if it cannot be, say so before the work
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = [net.to(device) for net in load_fomm(options.checkpoint, options.config or None)]
    kp_detector, generator = pair = retrofit(*networks, DaGAN.from_pretrained(options.depth).depth_net)
    pairs = FramePairs(Clips(options.data, options.size), seed=options.seed, candidates=options.candidates)

    print(f"before: {quality(*pair, options)}", flush=True)
    # The rest stays in eval mode: the networks' own batch-norm statistics are better than those of a few clips.
    generator.depth_encoder.train()
    first, last = options.detector_images, options.detector_images + options.images
    train([kp_detector], pair, batches(pairs, options.batch, stop=first), options)
    train(pair, pair, batches(pairs, options.batch, start=first, stop=last), options)
    generator.eval()
    print(f"after: {quality(*pair, options)}", flush=True)
    save_retrofit(options.output, *pair, everything=True)


def train(
    parts: Iterable[Retrofitted], pair: tuple[Retrofitted, Retrofitted], pairs: Iterable, options: Options
) -> None:
    """Train `parts` of the pair: gently what is trained already, faster what is new."""
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
    """The prediction is the driving frame, and key points move with the picture."""
    transform = RandomTransform.sample(len(driving), device=driving.device)
    kp, kp_transformed = (keypoints(kp_detector(image)) for image in (driving, transform.warp_image(driving)))
    equivariance = equivariance_loss(kp, kp_transformed, transform)
    prediction = drive(kp_detector, generator, source, driving)
    return 10 * pyramid_error(prediction, driving) + equivariance.value + equivariance.jacobian


def drive(kp_detector: nn.Module, generator: nn.Module, source: Tensor, driving: Tensor) -> Tensor:
    """FOMM's calls, with or without depth."""
    return generator(source, kp_driving=kp_detector(driving), kp_source=kp_detector(source))["prediction"]


@torch.no_grad()
def quality(kp_detector: nn.Module, generator: nn.Module, options: Options) -> str:
    """Mean over the test clips of the L1 of the prediction, the first frame driven by the others, and of a copy."""
    clips = Clips(options.data, options.size, split="test", cache_gb=0)
    device = next(generator.parameters()).device
    errors = []
    for name in clips.names:
        frames = torch.from_numpy(clips.read(name, range(0, clips.expect(name, 2), options.every))).permute(0, 3, 1, 2)
        sums = np.zeros(2)
        for driving in frames[1:].split(8):
            driving, source = (images.to(device) / 255 for images in (driving, frames[:1].expand_as(driving)))
            for i, guess in enumerate((drive(kp_detector, generator, source, driving), source)):
                sums[i] += (guess - driving).abs().mean((1, 2, 3)).sum().item()
        errors.append(sums / max(1, len(frames) - 1))
    ours, copied = np.mean(errors, axis=0)
    return f"L1 {ours:.4f}, copying the source {copied:.4f}: {100 * (1 - ours / copied):.1f} % lower"


if __name__ == "__main__":
    run(main, Options, __doc__)
