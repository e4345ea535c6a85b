"""Stage 1: depth, pose and intrinsics from neighboring frames of video, without depth labels (Hong et al. 2022, 3.1).

    python examples/train_depth.py --data FOLDER --output runs/depth
    torchrun --nproc-per-node 8 examples/train_depth.py --data FOLDER --network paper --size 256

Writes the moving average of the weights to OUTPUT/depth.safetensors, which `train_dagan.py` reads, beside what
training_run.py writes. docs/training.md says what each guard against flat and inside-out faces is worth.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from depthaware.alignment import align_frames
from depthaware.data.pairs import Clips, FrameTriples, batches
from depthaware.depth import SelfSupDepthNet
from depthaware.geometry import disparity_to_depth, invert_pose
from depthaware.losses import flip_consistency_loss, photometric_error, reproject, self_supervised_depth_loss
from depthaware.media.atomic import whole_file
from depthaware.media.image import to_uint8
from depthaware.pose import Pose, PoseNet
from depthaware.pretrained.hub import load_tensors
from depthaware.training.options import run
from depthaware.training.run import Average, Run, cosine, trained
from depthaware.training.run_options import RunOptions, at_least_one

# Encoder and decoder widths, finest first; dagan-tiny's, and the paper's.
NETWORKS = {"tiny": ("test_resnet", (8, 16, 24, 32, 64)), "paper": ("resnet18.tv_in1k", (16, 32, 64, 128, 256))}


@dataclass(frozen=True)
class Options(RunOptions):
    """What is trained on what, and how."""

    output: str = "runs/depth"
    init: str = ""  # folder of an earlier run to start from
    network: str = "tiny"  # or paper
    pretrained: bool = False  # encoders begin with ImageNet's weights, as the paper's do
    size: int = 128  # 256 in the paper
    images: int = 12_000
    max_gap: int = 12  # frames between neighbors at most; always 1 in the paper, where the pose is hardly learned
    min_motion: float = 0.015  # neighbors are the nearest frames that differ by this, see `FrameTriples`; 0: any gap
    pose: str = (
        "alignment"  # of pixels under the present depth; or network: learned along, with intrinsics, as in the paper
    )
    focal: float = 1.6  # of the camera for alignment, times the side
    near: float = 0.8  # the range of depth, in units of about the face's distance; 0.1 to 100 in the paper
    far: float = 1.25
    learning_rate: float = 5e-4  # 1e-4 in the paper, from ImageNet's weights
    clip: float = 1.0
    smoothness: float = 1e-2  # 1e-3 in the paper
    sizes: int = 3  # pictures are compared at full size, half, and a quarter; 1 in the paper
    scales: int = 1  # of the disparity pyramid; 4 in the paper
    automask: bool = True
    flip_consistency: float = 0.0  # weight of the difference to the disparity of the mirrored picture


class Prediction(nn.Module):
    """Depth and, if it is learned, pose, as the one forward pass that DistributedDataParallel asks for."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.scales = options.scales
        encoder, widths = NETWORKS[options.network]
        self.depth_net = SelfSupDepthNet(encoder, pretrained=options.pretrained, decoder_channels=widths)
        self.pose_net = PoseNet(encoder, pretrained=options.pretrained) if options.pose == "network" else None

    def forward(self, target: Tensor, pairs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], Pose | None]:
        """Disparities of the target, finest first, and the motion from the first frame of each pair to the second."""
        pose = None if self.pose_net is None else self.pose_net(*pairs)
        return self.depth_net(target, scales=self.scales), pose


class Cameras(NamedTuple):
    """Of the earlier and the later frame: the motion (B, 4, 4) from the target's, and the intrinsics (B, 3, 3)."""

    poses: tuple[Tensor, Tensor]
    K: tuple[Tensor, Tensor]


def main(options: Options) -> None:
    check(options)
    this = Run(options)
    model = build(options)
    average = Average(model, options.average).to(this.device)
    network = this.prepare(model)
    optimizer = torch.optim.Adam(trained(network), fused=True)
    clips = Clips(options.data, options.size, hold_out=options.hold_out, cache_gb=options.cache_gb)
    triples = FrameTriples(clips, seed=options.seed, max_gap=options.max_gap, min_motion=options.min_motion)
    this.check_clips(clips, 3)
    done = this.resume({"model": model, "average": average, "optimizer": optimizer}, clips.names)
    examples = held_out_triples(options) if this.main else ()
    for images, parts in this.batches(triples, done):
        figures: dict[str, float] = {}
        for i, ((earlier, target, later), _) in enumerate(parts):
            with this.gathering(network, last=i == len(parts) - 1):
                # Both pairs in one pass: the batch norms of a second one would count them twice.
                pairs = torch.cat((earlier, target)), torch.cat((target, later))
                mirrored = target.flip(3) if options.flip_consistency else target[:0]
                disparities, pose = network(torch.cat((target, mirrored)), pairs)
                disparities, other = zip(*(d.tensor_split([len(target)]) for d in disparities), strict=True)
                cameras = align(options, earlier, target, later, disparities[0]) if pose is None else split(pose)
                terms = {"reprojection": reprojection(options, earlier, target, later, disparities, cameras)}
                if options.flip_consistency:
                    terms["flip"] = options.flip_consistency * flip_consistency_loss(disparities[0], other[0])
                figures = this.backward(terms, images)
        rate = learning_rate(options, images)
        figures["gradient"] = this.step(network, optimizer, rate, images)
        average.update(model, images // options.batch)
        if this.due(options.log_every, images):
            this.log(images, figures | watch(options, earlier, target, later, disparities[0], cameras))
        if this.due(options.sample_every, images):
            look(this, images, average.network, examples)
        if this.due(options.checkpoint_every, images):
            save(this, average.network)  # before the checkpoint: nothing is done again after the last one
            this.checkpoint(images)
    this.finish(this.folder.path, [f"{name}.safetensors" for name, _ in networks(model)])


def check(options: Options) -> None:
    """Raise one line for what cannot be trained."""
    if options.network not in NETWORKS:
        raise ValueError(f"--network: expected {' or '.join(NETWORKS)}, got {options.network!r}")
    at_least_one(options, "max_gap", "sizes", "scales")
    if options.pose not in ("alignment", "network"):
        raise ValueError(f"--pose: expected alignment or network, got {options.pose!r}")


def align(options: Options, earlier: Tensor, target: Tensor, later: Tensor, disparity: Tensor) -> Cameras:
    """Poses from the pixels themselves, under the present depth and a portrait lens."""
    side, count = target.shape[-1], len(target)
    focal, center = options.focal * side, (side - 1) / 2
    K = target.new_tensor([[focal, 0, center], [0, focal, center], [0, 0, 1]]).expand(count, 3, 3)
    depth = disparity_to_depth(disparity, min_depth=options.near, max_depth=options.far)
    both = torch.cat((earlier, later))
    T = align_frames(target.repeat(2, 1, 1, 1), both, depth.repeat(2, 1, 1, 1), K.repeat(2, 1, 1))
    return Cameras((T[:count], T[count:]), (K, K))


def split(pose: Pose) -> Cameras:
    """Of the two pairs that `PoseNet` saw in one pass; the first led to the target, not from it."""
    before, after = pose.matrix().chunk(2)
    K = pose.K.chunk(2)
    return Cameras((invert_pose(before), after), (K[0], K[1]))


def reprojection(
    options: Options, earlier: Tensor, target: Tensor, later: Tensor, disparities: tuple[Tensor, ...], cameras: Cameras
) -> Tensor:
    """The loss of stage 1."""
    return self_supervised_depth_loss(
        target,
        [earlier, later],
        disparities,
        *cameras,
        smoothness=options.smoothness,
        automask=options.automask,
        sizes=options.sizes,
        min_depth=options.near,
        max_depth=options.far,
    )


def build(options: Options) -> Prediction:
    """New networks, or those of an earlier run."""
    torch.manual_seed(options.seed)
    model = Prediction(options)
    for head in model.depth_net.heads:  # nearly flat: a steep start is left only through a saturated sigmoid
        nn.init.zeros_(head.bias)
        head.weight.data *= 0.1
    model.depth_net.heads[options.scales :].requires_grad_(False)  # or several processes would wait for their gradients
    if options.init:
        for name, net in networks(model):
            load(net, Path(options.init) / f"{name}.safetensors")
    return model


def networks(model: Prediction) -> list[tuple[str, nn.Module]]:
    """What is saved, by name."""
    return [("depth", model.depth_net)] + ([("pose", model.pose_net)] if model.pose_net is not None else [])


def load(net: nn.Module, path: Path) -> None:
    """What an earlier run saved."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected a folder of train_depth.py, found no {path.name}")
    load_tensors(net, path)


def save(this: Run, model: Prediction) -> None:
    """What train_dagan.py and evaluate_depth.py read."""
    if this.main:
        for name, net in networks(model):
            with whole_file(this.folder.path / f"{name}.safetensors") as path:
                tensors = {key: tensor.cpu().contiguous() for key, tensor in net.state_dict().items()}
                path.write_bytes(serialize(tensors))


def learning_rate(options: Options, images: int) -> float:
    """A short rise and a cosine."""
    return options.learning_rate * min(1.0, images / (20 * options.batch)) * cosine(images / options.images)


@torch.no_grad()
def watch(
    options: Options, earlier: Tensor, target: Tensor, later: Tensor, disparity: Tensor, cameras: Cameras
) -> dict[str, float]:
    """The traps: no motion, intrinsics that run off, frames that nothing is learned from.

    `explained` is the error of the better of the frames as they are and the warped ones: unlike the loss it cannot
    fall by losing pixels to the auto-mask; it should fall below `still`, where no depth was used.
    """
    neighbors = (earlier, later)
    depths = dict(min_depth=options.near, max_depth=options.far)
    warped = [reproject(*view, **depths) for view in zip(neighbors, [disparity] * 2, *cameras, strict=True)]
    still, error = (
        torch.stack([photometric_error(image, target) for image in images]).amin(0) for images in (neighbors, warped)
    )
    T = cameras.poses[1]
    trace = T[:, 0, 0] + T[:, 1, 1] + T[:, 2, 2]
    return {
        "still": still.mean().item(),
        "explained": torch.minimum(error, still).mean().item(),
        "moving": (error < still).float().mean().item(),
        "rotation_degrees": ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg().mean().item(),
        "translation": T[:, :3, 3].norm(dim=-1).mean().item(),
        "focal": (cameras.K[1][:, 0, 0] / target.shape[-1]).mean().item(),
    }


def held_out_triples(options: Options) -> tuple[Tensor, ...]:
    """Six triples of persons that are not trained on, unless none were held out."""
    clips = Clips(options.data, options.size, hold_out=options.hold_out, held_out=options.hold_out > 0, cache_gb=0)
    return next(batches(FrameTriples(clips, max_gap=options.max_gap, augment=False), 6, stop=6))


@torch.no_grad()
def look(this: Run, images: int, model: Prediction, frames: tuple[Tensor, ...]) -> None:
    """A sheet to look at: three frames, and the disparity of the middle one."""
    if not this.main:
        return
    disparity = model.depth_net(frames[1].to(this.device), scales=1)[0].cpu()
    low, high = disparity.flatten(1).quantile(torch.tensor([0.01, 0.99]), dim=1).view(2, -1, 1, 1, 1)
    columns = [*frames, ((disparity - low) / (high - low)).clamp(0, 1).expand(-1, 3, -1, -1)]
    this.folder.sheet(images, np.vstack(np.concatenate([to_uint8(column) for column in columns], axis=2)))


if __name__ == "__main__":
    run(main, Options, __doc__)
