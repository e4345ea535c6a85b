"""Depth for a trained FOMM: load it, retrofit, fine-tune it on clips, and measure it before and after.

    python examples/retrofit_fomm.py --data FOLDER --checkpoint vox-adv-cpk.pth.tar --output runs/retrofit

Writes a folder for `integrations.fomm.load_retrofit` to OUTPUT.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluate_reconstruction import summary
from torch import Tensor, nn
from train_dagan import pyramid_error
from training_clips import Clips, parse

from depthaware import DaGAN
from depthaware.losses import RandomTransform, equivariance_loss
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
    every: int = 1  # keep every n-th frame
    batch: int = 4
    learning_rate: float = 2e-5  # 2e-4 would destroy trained weights
    new_learning_rate: float = 2e-4  # of what is new, which starts from nothing
    seed: int = 0
    threads: int = 2


def drive(kp_detector: nn.Module, generator: nn.Module, source: Tensor, driving: Tensor) -> Tensor:
    """FOMM's calls, with or without depth."""
    return generator(source, kp_driving=kp_detector(driving), kp_source=kp_detector(source))["prediction"]


@torch.no_grad()
def reconstruction_error(
    kp_detector: nn.Module, generator: nn.Module, clips: Mapping[str, np.ndarray], device: str, batch: int = 8
) -> dict[str, tuple[float, float]]:
    """Mean L1 of (prediction, copied source), the first frame of each clip driven by the others."""
    errors = {}
    for name, clip in ((name, clip) for name, clip in clips.items() if len(clip) > 1):
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
        sums = np.zeros(2)
        for driving in frames[1:].split(batch):
            driving, source = driving.to(device) / 255, frames[:1].expand(len(driving), -1, -1, -1).to(device) / 255
            for i, guess in enumerate((drive(kp_detector, generator, source, driving), source)):
                sums[i] += (guess - driving).abs().mean((1, 2, 3)).sum().item()
        errors[name] = tuple(sums / (len(clip) - 1))
    return errors


def loss(kp_detector: nn.Module, generator: nn.Module, source: Tensor, driving: Tensor) -> Tensor:
    """The prediction is the driving frame, and key points move with the picture."""
    transform = RandomTransform.sample(len(driving), device=driving.device)
    kp, kp_transformed = (keypoints(kp_detector(image)) for image in (driving, transform.warp_image(driving)))
    equivariance = equivariance_loss(kp, kp_transformed, transform)
    prediction = drive(kp_detector, generator, source, driving)
    return 10 * pyramid_error(prediction, driving) + equivariance.value + equivariance.jacobian


def train(
    parts: Iterable[Retrofitted], pair: tuple[Retrofitted, Retrofitted], pairs: Iterable, images: int, options: Options
) -> None:
    """Train `parts` of the pair: gently what is trained already, faster what is new."""
    device = next(pair[1].parameters()).device
    groups = []
    for part in parts:
        groups.append({"params": part.trainable_parameters("new"), "lr": options.new_learning_rate})
        groups.append({"params": part.model.parameters(), "lr": options.learning_rate})
    optimiser = torch.optim.Adam(groups, betas=(0.5, 0.999))
    for step, (source, driving) in zip(range(1, images // options.batch + 1), pairs, strict=False):
        value = loss(*pair, source.to(device), driving.to(device))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        if step % 50 == 0:
            print(f"images {step * options.batch}  loss {value.item():.4g}", flush=True)


def main(options: Options) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = [net.to(device) for net in load_fomm(options.checkpoint, options.config or None)]
    depth_net = DaGAN.from_pretrained(options.depth).depth_net
    kp_detector, generator = pair = retrofit(*networks, depth_net)

    test = Clips(Path(options.data), options.size, split="test", every=options.every).names
    print(f"before: {summary(reconstruction_error(*pair, test, device))}", flush=True)
    # The rest stays in eval mode: the networks' own batch-norm statistics are better than those of a few clips.
    generator.depth_encoder.train()
    clips = Clips(Path(options.data), options.size, every=options.every)
    pairs = clips.pairs(options.batch, np.random.default_rng(options.seed))
    train([kp_detector], pair, pairs, options.detector_images, options)
    train(pair, pair, pairs, options.images, options)
    generator.eval()
    print(f"after: {summary(reconstruction_error(*pair, test, device))}", flush=True)
    save_retrofit(options.output, *pair, everything=True)


if __name__ == "__main__":
    main(parse(Options, __doc__))
