"""Speed of one training step of either stage: plain float32 against mixed precision, channels last and a fused Adam."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from train_dagan import Critics, losses
from train_dagan import Options as Stage2

from depthaware import DaGAN, PoseNet, SelfSupDepthNet
from depthaware.geometry import invert_pose
from depthaware.losses import self_supervised_depth_loss

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
    """One optimiser step, the device's queue emptied after it."""
    device = next(networks[0].parameters()).device
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-6, fused=fast)
    if fast:
        for network in networks:
            network.to(memory_format=torch.channels_last)

    def run() -> None:
        optimiser.zero_grad()
        mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=fast)
        with mixed():
            value, train_critics = loss()
        value.backward()
        optimiser.step()
        with mixed():
            train_critics()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def stage1(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    depth_net, pose_net = SelfSupDepthNet().to(device), PoseNet().to(device)
    earlier, target, later = torch.rand(3, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        before, after = pose_net(earlier, target), pose_net(target, later)
        poses = [invert_pose(before.matrix()), after.matrix()]
        intrinsics = [before.K, after.K]
        return self_supervised_depth_loss(target, [earlier, later], depth_net(target), poses, intrinsics), lambda: None

    return [depth_net, pose_net], loss


def stage2(device: str, batch: int) -> tuple[list[torch.nn.Module], Callable[[], Loss]]:
    options = Stage2(size=256, motion_size=64, adversarial=1.0)
    model = DaGAN().to(device)
    assert model.depth_net is not None
    model.depth_net.requires_grad_(False)
    critics = Critics(options, model.config["num_keypoints"]).to(device)
    source, driving = torch.rand(2, batch, 3, 256, 256, device=device).unbind()

    def loss() -> Loss:
        terms, out = losses(model, critics, source, driving, options)
        return torch.stack(list(terms.values())).sum(), lambda: critics.step(out, driving)

    return [model], loss
