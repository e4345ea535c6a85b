"""Stage 2: key points, motion and generator on frame pairs, with the depth network of stage 1 frozen.

    python examples/train_dagan.py --data FOLDER --depth runs/depth --output runs/dagan

Writes a folder for `DaGAN.from_pretrained` to OUTPUT/weights (an exponential moving average) and a sheet of samples.
"""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from evaluate_reconstruction import reconstruction_error, summary
from safetensors.torch import load_file
from torch import Tensor, nn
from training_clips import Clips, parse

from depthaware import DaGAN, DaGANOutput, Keypoints, MultiScaleDiscriminator
from depthaware.geometry import normalised_to_pixel
from depthaware.image import to_tensor, to_uint8, write_image
from depthaware.losses import (
    PerceptualLoss,
    RandomTransform,
    VGG19Features,
    equivariance_loss,
    feature_matching_loss,
    keypoint_distance_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
    photometric_error,
)

TINY = {
    "num_keypoints": 15,
    "blend": True,
    "depth_encoder": "test_resnet",
    "depth_channels": [8, 16, 24, 32, 64],
    "keypoint_width": 16,
    "motion_width": 16,
    "hourglass_features": 128,
    "hourglass_blocks": 4,
    "generator_width": 12,
    "generator_features": 96,
    "down_blocks": 3,
    "bottleneck_blocks": 3,
}


@dataclass(frozen=True)
class Options:
    """What is trained on what; the defaults are dagan-tiny's first, coarse part."""

    data: str = "../shared/faces"
    output: str = "runs/dagan"
    depth: str = "runs/depth"  # folder of stage 1
    init: str = ""  # weights to go on from, instead of a new network with the depth of stage 1
    keypoint_input: str = "rgbd"
    attention: str = "cross"
    size: int = 128
    motion_size: int = 32  # key points and motion see motion_size x motion_size positions, whatever the size
    images: int = 24_000
    every: int = 1
    batch: int = 8
    learning_rate: float = 6e-4
    deformed: float = 5.0  # weights of the loss terms
    reconstruction: float = 10.0
    equivariance: float = 1.0
    keypoint_distance: float = 1.0
    perceptual: float = 0.0  # 10 in the paper; needs the weights of VGG-19
    vgg: str = ""  # file with those weights
    adversarial: float = 0.0  # 1 in the paper, with feature matching at 10 times this
    seed: int = 0
    threads: int = 2


def build(options: Options) -> DaGAN:
    """A new network, or the one of an earlier run at the size of this one."""
    size = {"image_size": options.size, "scale_factor": options.motion_size / options.size}
    if options.init:
        start = DaGAN.from_pretrained(options.init)
        model = DaGAN(**{**start.config, **size})
        model.load_state_dict(start.state_dict())
        return model
    model = DaGAN(**{**TINY, **size, "keypoint_input": options.keypoint_input, "attention": options.attention})
    if model.depth_net is not None:
        model.depth_net.load_state_dict(load_file(Path(options.depth) / "depth.safetensors"))
    return model


class Critics(nn.Module):
    """What judges pictures besides their pixels: VGG-19 if it is there, and a discriminator if it is wanted."""

    def __init__(self, options: Options, num_keypoints: int) -> None:
        super().__init__()
        self.perceptual = self.discriminator = None
        if options.perceptual:
            self.perceptual = PerceptualLoss(VGG19Features.from_file(options.vgg), weight=options.perceptual)
        if options.adversarial:
            self.discriminator = MultiScaleDiscriminator(num_keypoints)
            self.optimiser = torch.optim.Adam(
                self.discriminator.parameters(), lr=options.learning_rate, betas=(0.5, 0.999)
            )

    def terms(self, out: DaGANOutput, driving: Tensor, options: Options) -> dict[str, Tensor]:
        """The generator's terms."""
        terms = {}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(out.prediction, driving)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            kp = Keypoints(out.kp_driving.value.detach())
            generated, real = self.discriminator(out.prediction, kp), self.discriminator(driving, kp)
            terms["adversarial"] = options.adversarial * lsgan_generator_loss(generated)
            terms["feature_matching"] = 10 * options.adversarial * feature_matching_loss(real, generated)
        return terms

    def step(self, out: DaGANOutput, driving: Tensor) -> None:
        """Train the discriminator on the same batch."""
        if self.discriminator is None:
            return
        self.discriminator.requires_grad_(True)
        kp = Keypoints(out.kp_driving.value.detach())
        loss = lsgan_discriminator_loss(
            self.discriminator(driving, kp), self.discriminator(out.prediction.detach(), kp)
        )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def losses(
    model: DaGAN, critics: Critics, source: Tensor, driving: Tensor, options: Options
) -> tuple[dict[str, Tensor], DaGANOutput]:
    """The weighted terms of one batch."""
    out = model(source, driving)
    transform = RandomTransform.sample(len(driving), device=driving.device)
    kp_transformed, _ = model.detect(transform.warp_image(driving))
    equivariance = equivariance_loss(out.kp_driving, kp_transformed, transform)
    terms = {
        "reconstruction": options.reconstruction * pyramid_error(out.prediction, driving),
        "deformed": options.deformed * pyramid_error(out.deformed, driving),
        "equivariance": options.equivariance * (equivariance.value + equivariance.jacobian),
        "keypoint_distance": options.keypoint_distance * keypoint_distance_loss(out.kp_driving.value),
    }
    return terms | critics.terms(out, driving, options), out


def pyramid_error(prediction: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """SSIM + L1 at full, 1/2, 1/4, 1/8 size: in place of a perceptual loss, which needs ImageNet weights."""
    error = photometric_error(prediction, target, alpha=0.5).mean()
    for _ in range(scales - 1):
        prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        error = error + photometric_error(prediction, target, alpha=0.5).mean()
    return error / scales


def main(options: Options) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "options.json").write_text(json.dumps(dataclasses.asdict(options), indent=2))

    model = build(options).to(memory_format=torch.channels_last).train()
    if model.depth_net is not None:
        freeze(model.depth_net)
    average = copy.deepcopy(model).eval()
    critics = Critics(options, model.config["num_keypoints"])
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate, betas=(0.5, 0.999))
    steps = options.images // options.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min(1, (i + 1) / 50) * (0.525 + 0.475 * math.cos(math.pi * i / steps))
    )
    pairs = Clips(Path(options.data), options.size, every=options.every, hold_out=8).pairs(options.batch, rng)
    validation = Clips(Path(options.data), options.size, every=10, hold_out=8, held_out=True).names
    start = time.time()
    for step in range(1, steps + 1):
        source, driving = (x.contiguous(memory_format=torch.channels_last) for x in next(pairs))
        terms, out = losses(model, critics, source, driving, options)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimiser.step()
        schedule.step()
        critics.step(out, driving)
        update(average, model, decay=min(0.998, step / (step + 10)))
        if step % 50 == 0:
            report(step * options.batch, terms, out, driving, start, output)
        if step % 500 == 0 or step == steps:
            print(f"validation {summary(reconstruction_error(average, validation))}", flush=True)
            write_sheet(average, validation, output / "samples.png")
            average.save_pretrained(output / "weights", dtype=torch.float16)


def freeze(module: nn.Module) -> None:
    """No gradients, and batch norms that keep their statistics: `train()` of the whole would start them again."""
    module.requires_grad_(False).eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign, assignment]


@torch.no_grad()
def update(average: DaGAN, model: DaGAN, decay: float) -> None:
    """Move the average towards the model: its parameters and its batch-norm statistics."""
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def write_sheet(model: DaGAN, clips: Mapping[str, np.ndarray], path: Path, rows: int = 6) -> None:
    """A picture to look at: source, driver with its key points, result, deformed source, occlusion map, disparity."""
    strips = []
    for clip in list(clips.values())[:rows]:
        source, driving = to_tensor(clip[0]), to_tensor(clip[len(clip) // 2])
        out = model(source, driving)
        pixels = normalised_to_pixel(out.kp_driving.value[0], *driving.shape[-2:]).round().int()
        for x, y in pixels.tolist():
            driving[..., max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
        occlusion_map = F.interpolate(out.occlusion_map, size=driving.shape[-2:])
        columns = [source, driving, out.prediction, out.deformed, occlusion_map]
        columns += [] if out.disparity_source is None else [out.disparity_source]
        strips.append(np.hstack([to_uint8(column)[0] for column in columns]))
    write_image(path, np.vstack(strips))


def report(
    images: int, terms: dict[str, Tensor], out: DaGANOutput, driving: Tensor, start: float, output: Path
) -> None:
    """One line to look at, and the same as JSON."""
    stats = {"images": images} | {name: term.item() for name, term in terms.items()}
    stats["l1"] = (out.prediction - driving).abs().mean().item()
    stats["occlusion"] = out.occlusion_map.mean().item()
    stats["seconds"] = time.time() - start
    print("  ".join(f"{name} {value:.4g}" for name, value in stats.items()), flush=True)
    with open(output / "stats.jsonl", "a") as file:
        file.write(json.dumps(stats) + "\n")


if __name__ == "__main__":
    main(parse(Options, __doc__))
