"""Stage 2: key points, motion and generator on frame pairs, with the depth network of stage 1 frozen.

    python examples/train_dagan.py --data FOLDER --depth runs/depth --output runs/dagan
    torchrun --nproc-per-node 8 examples/train_dagan.py --data FOLDER --network paper --size 256 --motion-size 64

Writes the moving average of the weights to OUTPUT/weights, a folder for `DaGAN.from_pretrained`, beside what
training_run.py writes. Loss weights, optimizer and augmentation are the paper's; the network is dagan-tiny's unless
another is asked for.
"""

import copy
import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthaware import DaGAN, DaGANOutput, Keypoints, MultiScaleDiscriminator
from depthaware.data.pairs import Clips, FramePairs, batches
from depthaware.geometry import normalized_to_pixel
from depthaware.losses import (
    PerceptualLoss,
    RandomTransform,
    equivariance_loss,
    feature_matching_loss,
    keypoint_distance_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
    photometric_error,
)
from depthaware.media.image import to_uint8
from depthaware.pretrained.hub import CARD, CONFIG, WEIGHTS, load_tensors
from depthaware.training.frozen_features import frozen_features
from depthaware.training.options import run
from depthaware.training.run import Average, Run, cosine, trained
from depthaware.training.run_options import FREE, RunOptions, at_least_one

TINY = {
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
MINI = TINY | {
    "keypoint_width": 8,
    "motion_width": 8,
    "hourglass_features": 64,
    "generator_width": 8,
    "generator_features": 64,
    "down_blocks": 2,
    "bottleneck_blocks": 2,
}
# Options of `DaGAN`, and the discriminator's width; "mini" is for ablation.py, with the depth network of "tiny".
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {"mini": (MINI, 8), "tiny": (TINY, 16), "paper": ({}, 64)}


ROW = ("num_keypoints", "keypoint_input", "attention")


@dataclass(frozen=True)
class Options(RunOptions):
    """What is trained on what, and how."""

    output: str = "runs/dagan"
    depth: str = ""  # folder of stage 1; "": runs/depth, or the depth network that --init has
    init: str = ""  # weights to start from (bundled name, folder, Hub id) instead of a new network
    network: str = "tiny"  # or paper
    num_keypoints: int = 15  # this and the next two make the rows of the paper's Table 4, see `DaGAN`
    keypoint_input: str = "rgbd"
    attention: str = "cross"
    size: int = 0  # 0: that of --init, or 128; 256 in the paper
    motion_size: int = 0  # positions a side that key points and motion see; 0: those of --init, or 32; 64 in the paper
    images: int = 24_000
    candidates: int = 1  # of so many driving frames the one that differs most from the source is taken
    learning_rate: float = 0.0  # 0: the paper's 2e-4, or with --init 2e-5: trained weights are destroyed at 2e-4
    final_rate: float = 0.05  # the learning rate falls to this share of itself, along a cosine; 1 = constant
    perceptual: float = 10.0  # weights of the loss terms; this one is of each feature map at each scale
    features: str = "vgg19"  # what the perceptual loss compares: vgg19, a file with its weights, random, depth, none
    adversarial: float = 1.0
    feature_matching: float = 10.0
    equivariance: float = 10.0
    keypoint_distance: float = 10.0
    pyramid: float = 0.0  # SSIM + L1 at four scales; ours, for want of a perceptual loss
    deformed: float = 0.0  # the same of the source under the motion alone


def without_vgg(options: Options) -> Options:
    """What stands in for the perceptual loss where there is no VGG-19, unless other weights were given."""
    pyramid, deformed = options.pyramid or 100.0, options.deformed or 50.0
    return dataclasses.replace(options, features="none", pyramid=pyramid, deformed=deformed)


class Generation(nn.Module):
    """All that is trained but the discriminator, as the one forward pass that DistributedDataParallel asks for."""

    def __init__(self, model: DaGAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, driving: Tensor, transformed: Tensor) -> tuple[DaGANOutput, Keypoints]:
        """The generated frame, and the key points of the transformed driving frame."""
        return self.model(source, driving), self.model.detect_keypoints(transformed)


def main(options: Options) -> None:
    options = resolve(options)
    model = build(options)
    features = frozen_features(options.features if options.perceptual else "none", model.depth_net)
    no_vgg = features is None and options.features == "vgg19" and options.perceptual > 0
    this = Run(without_vgg(options) if no_vgg else options)
    if len(set(this.everywhere(no_vgg))) > 1:
        raise ValueError("--features vgg19: some processes found the weights and some did not; give a file")
    options = this.options
    average = Average(model, options.average).to(this.device)
    critic = discriminator(options, model)
    network, judge = this.prepare(Generation(model)), critic and this.prepare(critic)
    optimizer, critic_optimizer = adam(network), judge and adam(judge)
    perceptual = features and perceptual_loss(options, features).to(this.device)
    states = {"model": model, "average": average, "optimizer": optimizer}
    states |= {"discriminator": critic, "discriminator_optimizer": critic_optimizer} if critic else {}
    clips = Clips(options.data, options.size, hold_out=options.hold_out, cache_gb=options.cache_gb)
    pairs = FramePairs(clips, seed=options.seed, candidates=options.candidates)
    this.check_clips(clips, 2)
    done = this.resume(states, clips.names)
    if no_vgg:
        this.say(
            f"no VGG-19: a pyramid of SSIM and L1 (--pyramid {options.pyramid:g}) stands in for the perceptual loss"
        )
    validation = held_out_pairs(options) if this.main else []
    for images, parts in this.batches(pairs, done):
        figures: dict[str, float] = {}
        for i, ((source, driving), rows) in enumerate(parts):
            transform = random_transform(options, images, rows, this.device)
            with this.gathering(network, judge, last=i == len(parts) - 1):
                out, kp_transformed = network(source, driving, transform.warp_image(driving))
                terms = losses(options, out, driving, kp_transformed, transform)
                if perceptual:
                    terms["perceptual"] = perceptual(out.prediction, driving)
                if critic:
                    terms |= adversarial_losses(options, critic, out, driving)
                figures |= this.backward(terms, images)
                if judge:
                    figures |= this.backward({"discriminator": discriminator_loss(judge, out, driving)}, images)
        rate = learning_rate(options, images)
        figures["gradient"] = this.step(network, optimizer, rate, images)
        if judge:
            this.step(judge, critic_optimizer, rate, images)
        average.update(model, images // options.batch)
        if this.due(options.log_every, images):
            this.log(images, figures | {"occlusion": out.occlusion_map.mean().item(), "learning_rate": rate})
        if this.due(options.sample_every, images):
            look(this, images, average.network, validation)
        if this.due(options.checkpoint_every, images):
            save(this, average.network)  # before the checkpoint: nothing is done again after the last one
            this.checkpoint(images)
    this.finish(this.folder.path / "weights", [CONFIG, WEIGHTS, CARD])


def resolve(options: Options) -> Options:
    """Fill in what --init decides, or raise one line for what does not fit it."""
    if options.network not in NETWORKS:
        raise ValueError(f"--network: expected {' or '.join(NETWORKS)}, got {options.network!r}")
    at_least_one(options, "candidates")
    if not options.init:
        return dataclasses.replace(options, size=options.size or 128, motion_size=options.motion_size or 32)
    config = DaGAN.from_pretrained(options.init).config
    for name in ROW:
        if getattr(options, name) != config[name]:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {getattr(options, name)}: {options.init} has {config[name]}, expected the same")
    motion_size = round(config["scale_factor"] * config["image_size"])
    return dataclasses.replace(
        options, size=options.size or config["image_size"], motion_size=options.motion_size or motion_size
    )


def build(options: Options) -> DaGAN:
    """A new network with the depth of stage 1, or the one of `init` at the size of this run; the depth is frozen."""
    torch.manual_seed(options.seed)
    size = {"image_size": options.size, "scale_factor": options.motion_size / options.size}
    if options.init:
        start = DaGAN.from_pretrained(options.init)
        model = DaGAN(**{**start.config, **size})
        model.load_state_dict(start.state_dict())
        model.card = start.card
    else:
        row = {name: getattr(options, name) for name in ROW}
        model = DaGAN(**{**NETWORKS[options.network][0], **size, **row})
    if model.depth_net is not None:
        if options.depth or not options.init:
            load_depth(model, Path(options.depth or "runs/depth"))
        model.depth_net.requires_grad_(False).eval()  # and its batch norms keep their statistics
    return model


def load_depth(model: DaGAN, folder: Path) -> None:
    """The weights that train_depth.py left in a folder."""
    path = folder / "depth.safetensors"
    if not path.is_file():
        raise ValueError(f"--depth {folder}: expected a folder of train_depth.py, found no {path.name}")
    load_tensors(model.depth_net, path)
    made_by = json.loads((folder / "options.json").read_text())
    model.depth_range = model.config["depth_range"] = [made_by["near"], made_by["far"]]


def discriminator(options: Options, model: DaGAN) -> MultiScaleDiscriminator | None:
    """What judges pictures, if it is wanted."""
    if not options.adversarial and not options.feature_matching:
        return None
    width = NETWORKS[options.network][1]
    return MultiScaleDiscriminator(model.config["num_keypoints"], block_expansion=width, max_features=8 * width)


def perceptual_loss(options: Options, features: nn.Module) -> PerceptualLoss:
    """Over a pyramid down to 16 pixels, the least that VGG-19 can look at."""
    scales = [scale for scale in (1.0, 0.5, 0.25, 0.125) if scale * options.size >= 16]
    return PerceptualLoss(copy.deepcopy(features), weight=options.perceptual, scales=scales)


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(trained(network), betas=(0.5, 0.999), fused=True)


def learning_rate(options: Options, images: int) -> float:
    """A short rise, for Adam to learn its scales, and a cosine."""
    highest = options.learning_rate or (2e-5 if options.init else 2e-4)
    return highest * cosine(images / options.images, options.final_rate) * min(1.0, images / (50 * options.batch))


def random_transform(options: Options, images: int, rows: slice, device: torch.device) -> RandomTransform:
    """Of some rows of a batch: drawn for all of it, so that it does not matter how many processes share it."""
    generator = torch.Generator().manual_seed(options.seed * 1_000_000_007 + images)
    affine, centers, weights = RandomTransform.sample(options.batch, generator=generator, device=device)
    return RandomTransform(affine[rows], centers, weights[rows])


def losses(
    options: Options, out: DaGANOutput, driving: Tensor, kp_transformed: Keypoints, transform: RandomTransform
) -> dict[str, Tensor]:
    """The weighted terms that need no other network."""
    equivariance = equivariance_loss(out.kp_driving, kp_transformed, transform)
    terms = {
        "equivariance": options.equivariance * (equivariance.value + equivariance.jacobian),
        "keypoint_distance": options.keypoint_distance * keypoint_distance_loss(out.kp_driving.value),
    }
    if options.pyramid:
        terms["pyramid"] = options.pyramid * pyramid_error(out.prediction, driving)
    if options.deformed:
        terms["deformed"] = options.deformed * pyramid_error(out.deformed, driving)
    return terms


def pyramid_error(prediction: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """SSIM + L1 at full, 1/2, 1/4, 1/8 size."""
    error = photometric_error(prediction, target, alpha=0.5).mean()
    for _ in range(scales - 1):
        prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        error = error + photometric_error(prediction, target, alpha=0.5).mean()
    return error / scales


def adversarial_losses(
    options: Options, critic: MultiScaleDiscriminator, out: DaGANOutput, driving: Tensor
) -> dict[str, Tensor]:
    """The generator's terms; the discriminator, not the one that is wrapped, gets no gradients from them."""
    critic.requires_grad_(False)
    kp = Keypoints(out.kp_driving.value.detach())
    generated = critic(out.prediction, kp)
    with torch.no_grad():
        real = critic(driving, kp)
    critic.requires_grad_(True)
    return {
        "adversarial": options.adversarial * lsgan_generator_loss(generated),
        "feature_matching": options.feature_matching * feature_matching_loss(real, generated),
    }


def discriminator_loss(judge: nn.Module, out: DaGANOutput, driving: Tensor) -> Tensor:
    """In one pass over both kinds of pictures, as DistributedDataParallel asks for."""
    pictures = torch.cat((out.prediction.detach(), driving))
    scales = judge(pictures, Keypoints(out.kp_driving.value.detach().repeat(2, 1, 1)))
    count = len(driving)
    generated = [(prediction[:count], []) for prediction, _ in scales]
    return lsgan_discriminator_loss([(prediction[count:], []) for prediction, _ in scales], generated)


def held_out_pairs(options: Options, count: int = 64) -> list[tuple[Tensor, ...]]:
    """Batches of pairs, always the same, of persons that are not trained on unless none were held out."""
    held_out = options.hold_out > 0
    clips = Clips(options.data, options.size, hold_out=options.hold_out, held_out=held_out, cache_gb=0)
    return list(batches(FramePairs(clips, augment=False), 8, stop=count))


@torch.no_grad()
def look(this: Run, images: int, model: DaGAN, pairs: list[tuple[Tensor, ...]], rows: int = 6) -> None:
    """How much better than copying the source, and a sheet of the first pairs."""
    errors, strips = [], []
    for source, driving in ([frames.to(this.device) for frames in batch] for batch in pairs):
        out = model(source, driving)
        errors.append([(guess - driving).abs().mean().item() for guess in (out.prediction, source)])
        strips += strip(out, source, driving) if len(strips) < rows else []
    if pairs:
        l1, copied = np.mean(errors, axis=0)
        this.log(images, {"validation_l1": l1, "validation_l1_of_copying": copied, "validation_lower": 1 - l1 / copied})
        this.folder.sheet(images, np.vstack(strips[:rows]))


def strip(out: DaGANOutput, source: Tensor, driving: Tensor) -> list[np.ndarray]:
    """Source and driver with their key points, result, deformed source, occlusion map and disparity, of each pair."""
    occlusion_map = F.interpolate(out.occlusion_map, size=driving.shape[-2:])
    columns = [draw(source, out.kp_source), draw(driving, out.kp_driving), out.prediction, out.deformed, occlusion_map]
    columns += [] if out.disparity_source is None else [out.disparity_source]
    return list(np.concatenate([to_uint8(column.expand(-1, 3, -1, -1)) for column in columns], axis=2))


def draw(image: Tensor, kp: Keypoints) -> Tensor:
    """Key points as green squares."""
    image = image.clone()
    for picture, points in zip(image, normalized_to_pixel(kp.value, *image.shape[-2:]).round().int(), strict=True):
        for x, y in points.tolist():
            picture[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = picture.new_tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    return image


def save(this: Run, model: DaGAN) -> None:
    """What `DaGAN.from_pretrained` reads, with a card that says what made it."""
    if this.main:
        folder = this.folder.path / "weights"
        model.save_pretrained(folder, card=card(this.options, model.card), dtype=torch.float16)


def card(options: Options, earlier: str | None) -> str:
    """A model card with the facts that the recipe knows; the rest is for whoever publishes the weights.

    Args:
        options: of the run; where its files lie is nobody's business.
        earlier: the card of the weights that it started from, which says whose data and license these have.
    """
    made_by = {name: value for name, value in dataclasses.asdict(options).items() if name not in FREE - {"depth"}}
    made_by |= {name: Path(made_by[name]).name for name in ("depth", "init")}
    origin = "" if earlier is None else f"\n## The weights that it started from\n\n````text\n{earlier.strip()}\n````\n"
    return f"""---
library_name: depthaware
tags: [talking-head, image-animation, depth, dagan]
---

# {Path(options.output).name}

A DaGAN (Hong et al., CVPR 2022) trained by `examples/train_dagan.py` of depthaware {version("depthaware")} with these
options:

```json
{json.dumps(made_by, indent=2)}
```

To be said before this is published: whose faces it was trained on and with what permission, the license, the metrics
(`depthaware evaluate`), and where it fails. Animate people only with their consent, and say of the result that it is
generated.
{origin}"""


if __name__ == "__main__":
    run(main, Options, __doc__)
