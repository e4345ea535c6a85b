"""Speed of one training step of either stage: plain float32 against mixed precision, channels last and a fused Adam."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import train_dagan
import train_depth
from torch import Tensor

from depthaware import DaGAN

Loss = tuple[Tensor, Callable[[], None]]  # and what is to be trained after the backward pass


def training_rates(device: str, rounds: int) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Samples a second of full-size networks at 256 px, and how many times plain float32, for either stage."""
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
    """One optimizer step, the device's queue emptied after it."""
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
            value, train_critic = loss()
        value.backward()
        optimizer.step()
        with mixed():
            train_critic()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def stage1(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    options = train_depth.Options(network="paper", size=256, pose="network")
    model = train_depth.build(options).to(device)
    earlier, target, later = torch.rand(3, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        disparities, pose = model(target, (torch.cat((earlier, target)), torch.cat((target, later))))
        cameras = train_depth.split(pose)
        return train_depth.reprojection(options, earlier, target, later, disparities, cameras), lambda: None

    return [model], loss


def stage2(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    options = train_dagan.Options(network="paper", size=256, motion_size=64, batch=batch, pyramid=100.0, deformed=50.0)
    model = DaGAN().to(device)
    assert model.depth_net is not None
    model.depth_net.requires_grad_(False).eval()
    network, critic = train_dagan.Generation(model), train_dagan.discriminator(options, model)
    assert critic is not None
    optimizer = train_dagan.adam(critic.to(device))
    source, driving = torch.rand(2, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        transform = train_dagan.random_transform(options, 0, slice(None), source.device)
        out, kp_transformed = network(source, driving, transform.warp_image(driving))
        terms = train_dagan.losses(options, out, driving, kp_transformed, transform)
        terms |= train_dagan.adversarial_losses(options, critic, out, driving)

        def train_critic() -> None:
            optimizer.zero_grad()
            train_dagan.discriminator_loss(critic, out, driving).backward()
            optimizer.step()

        return torch.stack(list(terms.values())).sum(), train_critic

    return [model], loss
