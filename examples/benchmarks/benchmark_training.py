"""Speed of one training step of either stage: plain float32 against mixed precision, channels last and a fused Adam."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from depthaware import DaGAN
from depthaware.losses import DaGANLoss, discriminator_loss, self_supervised_depth_loss
from depthaware.training.stage1 import DepthStep, split_pose
from depthaware.training.stage2 import (
    GeneratorStep,
    adam,
    freeze_depth,
    new_discriminator,
    random_transform,
    substitute_losses,
)

Loss = tuple[Tensor, Callable[[], None]]  # and the step of the discriminator, taken after the backward pass


def training_rates(device: str, rounds: int) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Samples per second of full-size networks at 256 px, and the ratio to plain float32, for either stage."""
    batch = 16 if device.startswith("cuda") else 2
    for stage, make in (("stage 1", stage1), ("stage 2", stage2)):
        steps = {
            "plain float32": step(*make(device, batch), fast=False),
            "bfloat16, channels last, fused Adam": step(*make(device, batch), fast=True),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for round in range(rounds + 1):  # the first warms up
            for name, run in steps.items():
                start = time.perf_counter()
                run()
                if round:
                    times[name].append(time.perf_counter() - start)
        plain, table = next(iter(times.values())), {}
        for name, values in times.items():
            ratio = statistics.median(a / b for a, b in zip(plain, values, strict=True))
            table[name] = {"samples/s": batch / statistics.median(values), "ratio": ratio}
        yield f"training, {stage}, batch {batch}", table


def step(networks: list[torch.nn.Module], loss: Callable[[], Loss], *, fast: bool) -> Callable[[], None]:
    """One optimizer step, synchronized with the device."""
    device = next(networks[0].parameters()).device
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-6, fused=fast)
    if fast:
        for network in networks:
            network.to(memory_format=torch.channels_last)

    def run() -> None:
        optimizer.zero_grad()
        mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=fast)
        with mixed():
            value, train_discriminator = loss()
        value.backward()
        optimizer.step()
        with mixed():
            train_discriminator()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def stage1(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    model = DepthStep("paper", learn_pose=True).to(device)
    earlier, target, later = torch.rand(3, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        disparities, pose = model(target, (torch.cat((earlier, target)), torch.cat((target, later))))
        depths = {"min_depth": 0.8, "max_depth": 1.25}
        value = self_supervised_depth_loss(
            target, [earlier, later], disparities, *split_pose(pose), smoothness=1e-2, num_image_scales=3, **depths
        )
        return value, lambda: None

    return [model], loss


def stage2(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    model = DaGAN().to(device)
    freeze_depth(model)
    network, discriminator = GeneratorStep(model), new_discriminator("paper", model.config["num_keypoints"]).to(device)
    optimizer = adam(discriminator)
    source, driving = torch.rand(2, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        transform = random_transform(0, 0, batch, slice(None), source.device)
        out, kp_transformed = network(source, driving, transform.warp_image(driving))
        terms = substitute_losses(out, driving, pyramid=100.0, deformed=50.0)
        terms |= DaGANLoss()(out, driving, kp_transformed, transform, discriminator).present()

        def train_discriminator() -> None:
            optimizer.zero_grad()
            discriminator_loss(discriminator, out, driving).backward()
            optimizer.step()

        return torch.stack(list(terms.values())).sum(), train_discriminator

    return [model], loss
