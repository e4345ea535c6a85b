"""Small networks of every kind, saved under the names of the released checkpoints."""

import re
from pathlib import Path
from typing import Any

import torch

from depthaware.dagan import DaGAN
from depthaware.depth import SelfSupDepthNet
from depthaware.pose import PoseNet
from depthaware.pretrained.checkpoint import read_depth

SMALL = {
    "num_keypoints": 3,
    "depth_channels": [4, 4, 4, 8, 8],
    "detector_block_expansion": 4,
    "motion_block_expansion": 4,
    "hourglass_max_features": 8,
    "num_hourglass_blocks": 2,
    "generator_block_expansion": 4,
    "generator_max_features": 8,
    "num_down_blocks": 2,
    "num_bottleneck_blocks": 2,
    "scale_factor": 0.5,
    "align_corners": False,
}
FOMM = {"keypoint_input": "rgb", "attention": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "SPADE": {"decoder": "spade"},
    "FOMM": FOMM | {"align_corners": True},
    "self-attention": {"attention": "self"},
    "key points from depth": {"keypoint_input": "depth", "attention": "none"},
    "full scale": {"scale_factor": 1.0},
    "without Jacobians": FOMM | {"estimate_jacobian": False, "align_corners": True},
}
# Ours -> theirs, the other way round than in checkpoint.py and written apart from it.
THEIRS = [
    (r"^hourglass\.(down_blocks.*)", r"predictor.encoder.\1"),
    (r"^hourglass\.(up_blocks.*)", r"predictor.decoder.\1"),
    (r"^dense_motion\.(.*)(down_blocks.*)", r"dense_motion_network.\1encoder.\2"),
    (r"^dense_motion\.(.*)(up_blocks.*)", r"dense_motion_network.\1decoder.\2"),
    (r"^dense_motion\.", "dense_motion_network."),
    (r"^appearance_encoder\.", ""),
    (r"^depth_encoder\.", "src_"),
    (r"^attention\.gate", "AttnModule.gamma"),
    (r"^attention\.(\w+)", r"AttnModule.\1_conv"),
    (r"^decoder\.(bottleneck\.)", r"\1r"),
    (r"^decoder\.(up_blocks|final)", r"\1"),
    (r"^decoder\.middle\.", "decoder.G_middle_"),
    (r"^decoder\.up\.", "decoder.up_"),
    (r"\.shared\.", ".mlp_shared.0."),
    (r"\.(gamma|beta)\.", r".mlp_\1."),
    (r"parametrizations\.weight\.original", "weight_orig"),
    (r"parametrizations\.weight\.0\._([uv])", r"weight_\1"),
]


def theirs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, tensor in state.items():
        for ours, foreign in THEIRS:
            key = re.sub(ours, foreign, key)
        renamed[key] = tensor
    return renamed


def model(**options) -> DaGAN:
    torch.manual_seed(0)
    return DaGAN(**SMALL | options).eval()


def content(net: DaGAN) -> dict[str, Any]:
    """Content of a checkpoint that a training script saves."""
    state = net.state_dict()
    detector = {key[len("kp_detector.") :]: tensor for key, tensor in state.items() if key.startswith("kp_detector.")}
    generator = {key: tensor for key, tensor in state.items() if key.startswith("dense_motion.")}
    generator |= {key[len("generator.") :]: tensor for key, tensor in state.items() if key.startswith("generator.")}
    generator, detector = theirs(generator), theirs(detector)
    if net.dense_motion.down.step > 1:
        generator["dense_motion_network.down.weight"] = net.dense_motion.down.weight
        detector["down.weight"] = net.kp_detector.down.weight
    return {"generator": generator, "kp_detector": detector, "epoch": 3}


def write_depth(folder: Path, net: SelfSupDepthNet | PoseNet, files: tuple[str, str] = ("encoder", "depth")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = net.state_dict()
    encoder: dict[str, Any] = {key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
    names = ["squeeze", "conv1", "conv2", "motion", "focal", "centre"]
    decoder = {
        f"net.{names.index(k.split('.')[0])}.{k.split('.')[1]}": t for k, t in state.items() if k.split(".")[0] in names
    }
    for key, tensor in state.items():
        if match := re.fullmatch(r"(reduce|fuse|heads)\.(\d)\.(\w+)", key):
            part, level, leaf = match[1], int(match[2]), match[3]
            index = {"reduce": 8 - 2 * level, "fuse": 9 - 2 * level, "heads": 10 + level}[part]
            decoder[f"decoder.{index}.conv.{'' if part == 'heads' else 'conv.'}{leaf}"] = tensor
    encoder |= {"encoder.fc.weight": torch.zeros(10, 4), "encoder.fc.bias": torch.zeros(10)}
    torch.save(encoder | {"height": 256, "width": 256, "use_stereo": False}, folder / f"{files[0]}.pth")
    torch.save(decoder, folder / f"{files[1]}.pth")
    return folder


def write_depths(folder: Path) -> dict[str, Path]:
    """Folders of depth networks by ResNet depth."""
    channels = tuple(SMALL["depth_channels"])
    nets = {name: SelfSupDepthNet(f"resnet{name}.tv_in1k", decoder_channels=channels) for name in ("18", "50")}
    return {name: write_depth(folder / name, net) for name, net in nets.items()}


def small(options: dict[str, Any], depth_dirs: dict[str, Path], layers: str = "18") -> tuple[DaGAN, Path | None]:
    """A network, and its depth folder if it has one."""
    net = model(**options | {"depth_encoder": f"resnet{layers}.tv_in1k"})
    if net.depth_net is None:
        return net, None
    _, state = read_depth(depth_dirs[layers])
    net.depth_net.load_state_dict(state)
    return net, depth_dirs[layers]
