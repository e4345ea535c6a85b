"""Stage 1: depth, pose and intrinsics from neighbouring frames of video, without depth labels (Hong et al. 2022, 3.1).

    python examples/train_depth.py --data FOLDER --output runs/depth

Writes the depth network's weights and what made them to OUTPUT/depth.safetensors, which `train_dagan.py` reads.
"""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from training_clips import Clips, parse

from depthaware.depth import SelfSupDepthNet
from depthaware.geometry import invert_pose
from depthaware.losses import self_supervised_depth_loss
from depthaware.pose import PoseNet


@dataclass(frozen=True)
class Options:
    """What is trained on what; the defaults are dagan-tiny's."""

    data: str = "../shared/faces"
    output: str = "runs/depth"
    init: str = ""  # folder of an earlier run to go on from
    encoder: str = "test_resnet"
    decoder_channels: str = "8,16,24,32,64"
    size: int = 128
    images: int = 12_000
    batch: int = 8
    learning_rate: float = 5e-4
    max_gap: int = 4
    seed: int = 0
    threads: int = 2


def main(options: Options) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "options.json").write_text(json.dumps(dataclasses.asdict(options), indent=2))

    widths = tuple(map(int, options.decoder_channels.split(",")))
    depth_net = SelfSupDepthNet(options.encoder, decoder_channels=widths).to(memory_format=torch.channels_last)
    pose_net = PoseNet(options.encoder).to(memory_format=torch.channels_last)
    if options.init:
        depth_net.load_state_dict(load_file(Path(options.init) / "depth.safetensors"))
        pose_net.load_state_dict(load_file(Path(options.init) / "pose.safetensors"))
    parameters = [*depth_net.parameters(), *pose_net.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    steps = options.images // options.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: 0.55 + 0.45 * math.cos(math.pi * i / steps))

    triples = Clips(Path(options.data), options.size).triples(options.batch, rng, options.max_gap)
    start = time.time()
    for step in range(1, steps + 1):
        earlier, target, later = (x.contiguous(memory_format=torch.channels_last) for x in next(triples))
        before, after = pose_net(earlier, target), pose_net(target, later)
        poses = [invert_pose(before.matrix()), after.matrix()]
        loss = self_supervised_depth_loss(target, [earlier, later], depth_net(target), poses, [before.K, after.K])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            report(step, options.batch, loss.item(), after, start, output)
            for name, net in (("depth", depth_net), ("pose", pose_net)):
                tensors = {key: tensor.contiguous() for key, tensor in net.state_dict().items()}
                save_file(tensors, output / f"{name}.safetensors")


def report(step: int, batch: int, loss: float, pose, start: float, output: Path) -> None:
    """One line to look at, and the same as JSON: a pose that goes to zero or intrinsics that run off are the traps."""
    stats = {
        "images": step * batch,
        "loss": loss,
        "rotation_degrees": math.degrees(pose.axis_angle.norm(dim=-1).mean().item()),
        "translation": pose.translation.norm(dim=-1).mean().item(),
        "focal": pose.K[:, 0, 0].mean().item(),
        "centre_x": pose.K[:, 0, 2].mean().item(),
        "seconds": time.time() - start,
    }
    print("  ".join(f"{name} {value:.4g}" for name, value in stats.items()), flush=True)
    with open(output / "stats.jsonl", "a") as file:
        file.write(json.dumps(stats) + "\n")


if __name__ == "__main__":
    main(parse(Options, __doc__))
