"""Stage 2: key points, motion and generator on frame pairs, with the depth network of stage 1 frozen.

    python train_dagan.py --data FOLDER --depth runs/depth --output runs/dagan
    torchrun --nproc-per-node 8 train_dagan.py --data FOLDER --depth runs/depth --preset paper --batch 64

Writes the moving average of the weights to OUTPUT/weights, a folder for `DaGAN.from_pretrained`, beside logs,
validation sheets and checkpoints. Loss weights are the paper's (section 4.2) in both presets; optimizer, learning rate
and augmentation, which it does not state, those of the released code.
"""

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthaware import DaGAN, DaGANOutput, Keypoints
from depthaware.data import Clips, FramePairs, GuidedPairs, Landmarks, batches
from depthaware.geometry import normalized_to_pixel
from depthaware.losses import RandomTransform, discriminator_loss, region_weights
from depthaware.media.image import to_uint8
from depthaware.pretrained.hub import CARD, CONFIG, WEIGHTS
from depthaware.training.ema import EMA
from depthaware.training.frozen_features import frozen_features
from depthaware.training.guidance import GUIDED, consistency_loss, guided_terms
from depthaware.training.optimizer import warmup_cosine
from depthaware.training.options import check_choices, option, run_recipe
from depthaware.training.presets import preset_option, with_preset
from depthaware.training.run import Run
from depthaware.training.run_options import RESUMABLE, RunOptions, check_ranges
from depthaware.training.stage2 import (
    GeneratorStep,
    adam,
    freeze_depth,
    load_depth,
    new_discriminator,
    new_model,
    new_objective,
    random_transform,
    substitute_losses,
)

# tiny: the sizes of dagan-tiny, the released code's attention and motion. paper: Hong et al. 2022 as printed, that
# is eq. 9 without ReLU, residual and gate, and eq. 7 without Jacobians, at the sizes of the released weights.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"size": 128, "motion_size": 32, "attention_form": "released", "estimate_jacobian": "yes"},
    "paper": {"size": 256, "motion_size": 64, "attention_form": "paper", "estimate_jacobian": "no"},
}

ROW = ("num_keypoints", "keypoint_input", "attention")  # make the rows of the paper's Table 4
FORM = ("attention_form", "estimate_jacobian")
LOSSES = ("perceptual", "adversarial", "feature_matching", "equivariance", "keypoint_distance")


@dataclass(frozen=True)
class Options(RunOptions):
    """Options of stage 2."""

    output: str = option("runs/dagan", "folder of the run; given the same folder again, an interrupted run is resumed")
    depth: str | None = option(
        None,
        "folder of stage 1 or of other weights with depth, or a bundled name; runs/depth, or with --init the depth "
        "network that it has",
    )
    init: str | None = option(None, "weights to start from: a bundled name, a folder, or a Hub id")
    preset: Literal["tiny", "paper"] = option(
        "tiny", "networks (with --init, of the discriminator alone), and defaults of the options that name both presets"
    )
    num_keypoints: int = option(15, "number of key points")
    keypoint_input: Literal["rgb", "rgbd", "depth"] = option("rgbd", "input of the key point detector")
    attention: Literal["cross", "self", "none"] = option(
        "cross", "attention of the generator; cross is guided by depth"
    )
    attention_form: Literal["released", "paper"] | None = preset_option(
        PRESETS,
        "attention_form",
        "eq. 9 with ReLU, residual and gate (released), or as printed; that of --init, if given",
    )
    estimate_jacobian: Literal["yes", "no"] | None = preset_option(
        PRESETS, "estimate_jacobian", "give each key point a local affine frame, as FOMM does; as --init, if given"
    )
    size: int | None = preset_option(PRESETS, "size", "side of the images, in pixels; that of --init, if given")
    motion_size: int | None = preset_option(
        PRESETS, "motion_size", "side of the maps of key points and motion; that of --init, if given"
    )
    images: int = option(24_000, "length of the run")
    candidates: int = option(1, "driving frames drawn, of which the one that differs most from the source is taken")
    learning_rate: float | None = option(
        None,
        "highest learning rate; the released code's 2e-4, or 2e-5 with --init, since 2e-4 destroys trained weights",
    )
    final_rate: float = option(0.05, "share of the learning rate at the end of the cosine; 1 for a constant rate")
    perceptual: float = option(10.0, "weight of the perceptual loss, for each feature map at each scale")
    features: str = option(
        "vgg19", "network of the perceptual loss: vgg19, a file with its weights, random, depth, none"
    )
    adversarial: float = option(1.0, "weight of the adversarial loss")
    feature_matching: float = option(10.0, "weight of the feature matching loss (that of pix2pixHD)")
    equivariance: float = option(10.0, "weight of the equivariance loss")
    keypoint_distance: float = option(10.0, "weight of the key point distance loss")
    pyramid: float | None = option(None, "weight of SSIM and L1 at four scales; 0, or 100 for want of VGG-19's weights")
    deformed: float | None = option(
        None, "the same for the source under the motion alone; 0, or 50 for want of VGG-19's weights"
    )
    landmarks: str | None = option(
        None, "folder of prepare_clips.py --landmarks: guide 10 key points and the motion by them; the next 7 need it"
    )
    guide: float = option(80.0, "weight of the guided key points")
    gaps: float = option(80.0, "weight of the opening and width of the mouth and the opening of the eyes in them")
    guided_motion: float = option(40.0, "weight of the motion at landmarks")
    consistency: float = option(15.0, "weight of what the averaged detector finds in the result")
    regions: float = option(12.0, "additional weight of mouth and eyes in --pyramid and --deformed")
    mouth_events: float = option(0.2, "share of pairs with the mouth at an extreme of the clip in one frame")
    lid_events: float = option(0.22, "share of pairs with the eyes closed in one frame")
    initial_gate: float | None = option(None, "gate of the attention at the start; 0, or that of --init")
    attention_rate: float = option(1.0, "factor on the learning rate of attention and depth encoder")
    gate_rate: float = option(1.0, "factor on the learning rate of the gate")
    fast: bool = option(
        False,
        "detect all key points in one pass; equivariance on half a batch every second step, consistency on the others, "
        "each with twice its weight",
    )


def main(options: Options) -> None:
    options = resolve(options)
    model = build(options)
    features = frozen_features(options.features if options.perceptual else "none", model.depth_net)
    no_vgg = features is None and options.features == "vgg19" and options.perceptual > 0
    options = with_pyramid(options, no_vgg)
    run = Run(options)
    if len(set(run.gather(no_vgg))) > 1:
        raise ValueError("--features vgg19: some processes found the weights and some did not; give a file")
    ema = EMA(model, options.ema).to(run.device)
    adversarial = options.adversarial or options.feature_matching
    discriminator = new_discriminator(options.preset, model.config["num_keypoints"]) if adversarial else None
    network = run.prepare(GeneratorStep(model, joint=options.fast))
    ddp_discriminator = discriminator and run.prepare(discriminator)
    optimizer = adam(network, attention_rate=options.attention_rate, gate_rate=options.gate_rate)
    discriminator_optimizer = ddp_discriminator and adam(ddp_discriminator)
    weights = {name: getattr(options, name) for name in LOSSES}
    guided = GUIDED if options.landmarks else 0
    objective = new_objective(features, options.size, guided=guided, **weights).to(run.device)
    states = {"model": model, "ema": ema, "optimizer": optimizer}
    if discriminator:
        states |= {"discriminator": discriminator, "discriminator_optimizer": discriminator_optimizer}
    clips = Clips(options.data, options.size, hold_out=options.hold_out, cache_gb=options.cache_gb)
    pairs = new_pairs(options, clips)
    run.check_clips(clips, 2)
    done = run.resume(states, clips.names)
    if no_vgg:
        run.say(f"no VGG-19: a pyramid of SSIM and L1 (--pyramid {options.pyramid:g}) replaces the perceptual loss")
    validation = held_out_pairs(options) if run.main else []
    for images, parts in run.batches(pairs, done):
        metrics: dict[str, float] = {}
        even, twice = images // options.batch % 2 == 0, 2.0 if options.fast else 1.0
        for i, ((source, driving, *landmarks), rows) in enumerate(parts):
            transform = random_transform(options.seed, images, options.batch, rows, run.device)
            transform, transformed = transformed_part(options, transform, driving, even)
            with run.no_sync_unless_last(network, ddp_discriminator, last=i == len(parts) - 1):
                out, kp_transformed = network(source, driving, transformed)
                regions = region_weights(landmarks[1], driving.shape[-2:], gain=options.regions) if landmarks else None
                pixels = {"pyramid": options.pyramid, "deformed": options.deformed, "weights": regions}
                terms = substitute_losses(out, driving, **pixels)
                # The discriminator itself, not the wrapped one: it gets no gradients here.
                terms |= objective(out, driving, kp_transformed, transform, discriminator).present()
                if options.fast and "equivariance" in terms:
                    terms["equivariance"] = twice * terms["equivariance"]
                if landmarks:
                    own = {"guide": options.guide, "gaps": options.gaps, "motion": options.guided_motion}
                    terms |= guided_terms(out, *landmarks, **own)
                    if options.consistency and not (options.fast and even):
                        with run.accelerator.autocast():
                            error = consistency_loss(ema.network.kp_detector, out, driving)
                        terms["consistency"] = twice * options.consistency * error
                metrics |= run.backward(terms, images)
                if ddp_discriminator:
                    loss = discriminator_loss(ddp_discriminator, out, driving)
                    metrics |= run.backward({"discriminator": loss}, images)
        rate = learning_rate(options, images)
        metrics["gradient"] = run.step(network, optimizer, rate, images)
        if ddp_discriminator:
            run.step(ddp_discriminator, discriminator_optimizer, rate, images)
        ema.update(model, images // options.batch)
        if run.due(options.log_every, images):
            run.log(images, metrics | {"occlusion": out.occlusion_map.mean().item(), "learning_rate": rate})
        if run.due(options.sample_every, images):
            validate(run, images, ema.network, validation)
        if run.due(options.checkpoint_every, images):
            save(run, ema.network)  # before the checkpoint: nothing is repeated after the last one
            run.checkpoint(images)
    run.finish(run.folder.path / "weights", [CONFIG, WEIGHTS, CARD])


def new_pairs(options: Options, clips: Clips) -> FramePairs | GuidedPairs:
    """Pairs of training clips, with landmarks if there are any."""
    if options.landmarks is None:
        return FramePairs(clips, seed=options.seed, candidates=options.candidates)
    shares = (options.mouth_events / 2, options.mouth_events / 2, options.lid_events)
    landmarks = Landmarks(options.landmarks)
    return GuidedPairs(clips, landmarks, seed=options.seed, candidates=options.candidates, shares=shares)


def transformed_part(
    options: Options, transform: RandomTransform, driving: Tensor, even: bool
) -> tuple[RandomTransform | None, Tensor | None]:
    """The transform and the transformed frames of this step; with --fast of half a batch in every second step."""
    if not options.fast:
        return transform, transform.warp_image(driving)
    if not even:
        return None, None
    half = (len(driving) + 1) // 2
    transform = transform._replace(affine=transform.affine[:half], weights=transform.weights[:half])
    return transform, transform.warp_image(driving[:half])


def resolve(options: Options) -> Options:
    """Fill in the values of --init and of the preset; `depth` is None for a model without a depth network.

    Raises:
        ValueError: if an option does not fit --init, or is out of range.
    """
    check_choices(options)
    start = {"depth": "runs/depth", "learning_rate": 2e-4} if options.init is None else of_init(options)
    options = with_preset(options, PRESETS[options.preset] | start)
    check_ranges(options)
    if options.landmarks is not None and options.num_keypoints < GUIDED + 2:
        wanted = f"expected at least {GUIDED + 2} with --landmarks"
        raise ValueError(f"--num-keypoints: {wanted}, got {options.num_keypoints}")
    if options.initial_gate and options.attention_form == "paper":
        raise ValueError(f"--initial-gate: expected 0 with the attention as printed, got {options.initial_gate}")
    has_depth = options.keypoint_input != "rgb" or options.attention == "cross"
    return options if has_depth else dataclasses.replace(options, depth=None)


def of_init(options: Options) -> dict[str, Any]:
    """Defaults for --init; its key points and attention must be those of the options that are given."""
    config = DaGAN.from_pretrained(options.init).config
    config["estimate_jacobian"] = "yes" if config["estimate_jacobian"] else "no"
    for name in (*ROW, *FORM):
        if getattr(options, name) not in (None, config[name]):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {getattr(options, name)}: {options.init} has {config[name]}, expected the same")
    motion_size = round(config["scale_factor"] * config["image_size"])
    sizes = {"size": config["image_size"], "motion_size": motion_size}
    return {name: config[name] for name in FORM} | sizes | {"learning_rate": 2e-5}


def with_pyramid(options: Options, no_vgg: bool) -> Options:
    """Fill in the weights of the pyramid, which replaces the perceptual loss where there is no VGG-19."""
    if no_vgg:
        options = dataclasses.replace(options, features="none")
    return with_preset(options, {"pyramid": 100.0 if no_vgg else 0.0, "deformed": 50.0 if no_vgg else 0.0})


def build(options: Options) -> DaGAN:
    """A new network with the depth of stage 1, or the one of --init at the size of this run; the depth is frozen."""
    torch.manual_seed(options.seed)
    if options.init is None:
        made_of = {name: getattr(options, name) for name in (*ROW, *FORM)}
        made_of |= {"estimate_jacobian": options.estimate_jacobian == "yes"}
        made_of |= {"initial_gate": options.initial_gate or 0.0}
        model = new_model(options.preset, size=options.size, motion_size=options.motion_size, **made_of)
    else:
        start = DaGAN.from_pretrained(options.init)
        sizes = {"image_size": options.size, "scale_factor": options.motion_size / options.size}
        model = DaGAN(**{**start.config, **sizes})
        model.load_state_dict(start.state_dict())
        model.card = start.card
        gate = getattr(model.generator.attention, "gate", None)
        if options.initial_gate is not None and gate is not None:
            torch.nn.init.constant_(gate, options.initial_gate)
    if model.depth_net is not None and options.depth is not None:
        load_depth(model, options.depth)
    freeze_depth(model)
    return model


def learning_rate(options: Options, images: int) -> float:
    warmup = 50 * options.batch
    return warmup_cosine(options.learning_rate, images, options.images, warmup=warmup, final=options.final_rate)


def held_out_pairs(options: Options, count: int = 64) -> list[tuple[Tensor, ...]]:
    """Batches of pairs, always the same, of persons who are not trained on unless none were held out."""
    held_out = options.hold_out > 0
    clips = Clips(options.data, options.size, hold_out=options.hold_out, held_out=held_out, cache_gb=0)
    return list(batches(FramePairs(clips, augment=False), 8, stop=count))


@torch.no_grad()
def validate(run: Run, images: int, model: DaGAN, pairs: list[tuple[Tensor, ...]], rows: int = 6) -> None:
    """Log the L1 on held-out pairs beside that of copying the source, and write a sheet of the first pairs."""
    errors, strips = [], []
    for source, driving in ([frames.to(run.device) for frames in batch] for batch in pairs):
        out = model(source, driving)
        errors.append([(image - driving).abs().mean().item() for image in (out.prediction, source)])
        strips += strip(out, source, driving) if len(strips) < rows else []
    if pairs:
        l1, copied = np.mean(errors, axis=0)
        run.log(images, {"validation_l1": l1, "validation_l1_of_copying": copied, "validation_lower": 1 - l1 / copied})
        run.folder.sheet(images, np.vstack(strips[:rows]))


def strip(out: DaGANOutput, source: Tensor, driving: Tensor) -> list[np.ndarray]:
    """Row of a sheet for each pair: source, driving frame, result, deformed source, occlusion map, disparity."""
    occlusion_map = F.interpolate(out.occlusion_map, size=driving.shape[-2:])
    columns = [mark(source, out.kp_source), mark(driving, out.kp_driving), out.prediction, out.deformed, occlusion_map]
    columns += [] if out.disparity_source is None else [out.disparity_source]
    return list(np.concatenate([to_uint8(column.expand(-1, 3, -1, -1)) for column in columns], axis=2))


def mark(images: Tensor, kp: Keypoints) -> Tensor:
    """Images with their key points as green squares."""
    images = images.clone()
    for image, points in zip(images, normalized_to_pixel(kp.value, *images.shape[-2:]).round().int(), strict=True):
        for x, y in points.tolist():
            image[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = image.new_tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    return images


def save(run: Run, model: DaGAN) -> None:
    """Write the weights, with a card that names the options of the run."""
    if run.main:
        folder = run.folder.path / "weights"
        model.save_pretrained(folder, card=card(run.options, model.card), dtype=torch.float16)


def card(options: Options, earlier: str | None) -> str:
    """A model card with the facts that the recipe knows; the publisher of the weights adds the rest.

    Args:
        options: of the run; paths are left out.
        earlier: card of the weights that --init names, with their data and license.
    """
    made_by = {name: value for name, value in dataclasses.asdict(options).items() if name not in RESUMABLE}
    made_by |= {name: Path(made_by[name]).name for name in ("depth", "init", "landmarks") if made_by[name] is not None}
    detector = "" if options.landmarks is None else Landmarks(options.landmarks).detector
    guided = (
        f"""
Key points and motion were guided by landmarks of {detector}. The license of that model applies too: dlib's was trained
on iBUG 300-W, which excludes commercial use.
"""
        if detector
        else ""
    )
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
{guided}
To be added before publication: the persons whose faces it was trained on and their permission, the license, the metrics
(`depthaware evaluate`), and known failures. Animate people only with their consent, and say of the result that it is
generated.
{origin}"""


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
