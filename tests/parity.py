"""The reference networks' arrays against ours, all through the converter: ``python tests/parity.py [--golden FOLDER]``.

With ``--optimized``, whole models go through `optimize` as well.

Prints the largest absolute difference of every array. The weights are made by rule (`golden_rule.py`), written in the
containers of the released checkpoints, converted, saved, and loaded again as anybody would.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import golden_rule
import numpy as np
import torch
from torch import Tensor

from depthaware.dagan import DaGAN
from depthaware.depth import SelfSupDepthNet
from depthaware.discriminator import MultiScaleDiscriminator
from depthaware.inference.optimization import optimize
from depthaware.keypoints import Keypoints, transfer_motion
from depthaware.motion import DenseMotion
from depthaware.pose import PoseNet
from depthaware.pretrained.checkpoint import read_depth, read_discriminator, read_pose

GOLDEN = Path(__file__).parent / "golden"
Arrays = dict[str, Any]
Change = Callable[[DaGAN], Any]


class Row(NamedTuple):
    """One compared array; `difference` is relative for the intrinsics, which are in pixels, and absolute otherwise."""

    name: str
    difference: float
    tolerance: float


def tensors(golden: Path, network: str, prefix: str, salt: str = "parity-a") -> dict[str, Tensor]:
    """Weights of one foreign network, by rule."""
    file = "fomm_state_dict.json" if network.startswith("fomm") else "dagan_state_dict.json"
    shapes = json.loads((golden / file).read_text())[network]
    return {key: torch.from_numpy(value) for key, value in golden_rule.state_dict(prefix, shapes, salt).items()}


def write_checkpoint(golden: Path, path: Path, generator: str) -> Path:
    """A ``.pth.tar`` as the training code of DaGAN and FOMM leaves it."""
    fomm = generator.startswith("fomm")
    networks = {
        "generator": tensors(golden, generator, generator if fomm else "generator"),
        "kp_detector": tensors(golden, *["fomm_kp_detector" if fomm else "kp_detector"] * 2),
        "discriminator": tensors(golden, "discriminator", "discriminator"),
    }
    content: dict[str, Any] = {
        name: {f"module.{key}": tensor for key, tensor in state.items()} for name, state in networks.items()
    }
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    torch.save(content | {"optimizer_generator": optimizer, "epoch": 99, "loss": np.float64(0.5)}, path)
    return path


def write_depth(golden: Path, folder: Path, layers: int = 18) -> Path:
    """The folder of a depth network (and its pose network)."""
    folder.mkdir()
    size = {"height": 256, "width": 256, "use_stereo": False}
    for file, network in (("encoder", f"depth_encoder{layers}"), ("pose_encoder", "pose_encoder")):
        torch.save(tensors(golden, network, network) | size, folder / f"{file}.pth")
    for file, network in (("depth", f"depth_decoder{layers}"), ("pose", "pose_decoder")):
        torch.save(tensors(golden, network, network), folder / f"{file}.pth")
    return folder


def converted(golden: Path, folder: Path, generator: str) -> DaGAN:
    """checkpoint -> from_checkpoint -> save_pretrained -> from_pretrained."""
    path = write_checkpoint(golden, folder / "checkpoint.pth.tar", generator)
    fomm = generator.startswith("fomm")
    depth_dir = None if fomm else write_depth(golden, folder / "depth")
    # The arrays of FOMM, too, were made with the sampling of newer torch.
    DaGAN.from_checkpoint(path, depth_dir, align_corners=False if fomm else None).save_pretrained(folder / "converted")
    path.unlink()
    return DaGAN.from_pretrained(folder / "converted")


def image(arrays: Arrays, name: str) -> Tensor:
    """(1, 3, 256, 256) in [0, 1]."""
    return torch.from_numpy(arrays[name]).permute(2, 0, 1)[None] / 255


def depth18(arrays: Arrays, golden: Path, folder: Path) -> Arrays:
    return _depth(arrays, golden, folder, 18)


def depth50(arrays: Arrays, golden: Path, folder: Path) -> Arrays:
    return _depth(arrays, golden, folder, 50)


def _depth(arrays: Arrays, golden: Path, folder: Path, layers: int) -> Arrays:
    options, state = read_depth(write_depth(golden, folder / "depth", layers))
    net = SelfSupDepthNet(**options).eval()
    net.load_state_dict(state)
    found = {f"disp{layers}_driving_scale0": net(image(arrays, "driving_image"), num_scales=1)[0]}
    for scale, disparity in enumerate(net(image(arrays, "source_image"))):
        found[f"disp{layers}_source_scale{scale}"] = disparity
    return found


def pose(arrays: Arrays, golden: Path, folder: Path) -> Arrays:
    options, state = read_pose(write_depth(golden, folder / "depth"))
    net = PoseNet(**options).eval()
    net.load_state_dict(state)
    pair = image(arrays, "driving_image"), image(arrays, "driving_next")
    both = net._motion(net._features(*pair))[:, :, None]  # the second pair, which nothing uses, as well
    found = {"pose_axisangle": both[..., :3], "pose_translation": both[..., 3:], "pose_intrinsics": net(*pair).K}
    torch.testing.assert_close(net(*pair).axis_angle, both[:, 0, 0, :3])
    return found


def discriminator(arrays: Arrays, golden: Path, folder: Path) -> Arrays:
    path = folder / "checkpoint.pth.tar"
    torch.save({"discriminator": tensors(golden, "discriminator", "discriminator")}, path)
    options, state = read_discriminator(path)
    net = MultiScaleDiscriminator(**options).eval()
    net.load_state_dict(state)
    kp = Keypoints(torch.from_numpy(arrays["kp_driving_value"]))
    out = net(image(arrays, "driving_image"), kp)[0]
    features = {f"disc_feature_mean_{i}": feature.mean((2, 3)) for i, feature in enumerate(out.features)}
    return {"disc_prediction_map": out.prediction} | features


def plain(arrays: Arrays, golden: Path, folder: Path, change: Change) -> Arrays:
    """The detector, the plain generator, and relative motion from the first driving frame to the next."""
    model = change(converted(golden, folder, "DepthAwareGenerator"))
    attended: list[Tensor] = []
    networks = getattr(model, "model", model)  # an optimized model wraps them
    hook = networks.generator.attention.register_forward_pre_hook(lambda _, inputs: attended.extend(inputs))
    source = model.encode_source(image(arrays, "source_image"))
    kp_driving, _ = model.detect(image(arrays, "driving_image"))
    out = model.drive_with_details(source, kp_driving)
    hook.remove()
    motion: DenseMotion = networks.dense_motion(source.image, out.kp_source, kp_driving)
    rows = networks.generator.attention.attention_map(*attended, queries=torch.arange(0, 4096, 512)).flatten(2)
    current, _ = model.detect(image(arrays, "driving_next"))
    found = _keypoints("kp_source", out.kp_source) | _keypoints("kp_driving", kp_driving)
    found |= _keypoints("kp_relative", transfer_motion(out.kp_source, current, kp_driving))
    found |= {f"DepthAwareGenerator.{name}": getattr(out, name) for name in _FRAME}
    return found | {
        "deformation": out.deformation,
        "DepthAwareGenerator.sparse_deformed_mean": motion.sparse_deformed.mean((3, 4)),
        "DepthAwareGenerator.attention_rows": rows,
    }


def spade(arrays: Arrays, golden: Path, folder: Path, change: Change) -> Arrays:
    model = change(converted(golden, folder, "SPADEDepthAwareGenerator"))
    out = model(image(arrays, "source_image"), image(arrays, "driving_image"))
    return {"SPADEDepthAwareGenerator.prediction": out.prediction}


def fomm(arrays: Arrays, golden: Path, folder: Path, change: Change) -> Arrays:
    model = change(converted(golden, folder, "fomm_generator"))
    out = model(image(arrays, "source_image"), image(arrays, "driving_image"))
    found = _keypoints("kp_source", out.kp_source) | _keypoints("kp_driving", out.kp_driving)
    return found | {name: getattr(out, name) for name in _FRAME}


def motion(arrays: Arrays, golden: Path, folder: Path) -> Arrays:
    """The motion transfer alone."""
    source, current, initial = (
        Keypoints(*(torch.from_numpy(arrays[f"motion_in_{name}_{part}"]) for part in ("value", "jacobian")))
        for name in ("source", "current", "initial")
    )
    return {
        **_keypoints("motion_adaptive", transfer_motion(source, current, initial)),
        **_keypoints("motion_relative", transfer_motion(source, current, initial, adaptive_scale=False)),
        **_keypoints("motion_absolute", transfer_motion(source, current, initial, mode="absolute")),
    }


_FRAME = ("prediction", "mask", "occlusion_map", "deformed")
# What computes a part, the file with its arrays, and which of them it answers for.
PARTS: dict[str, tuple[Callable[[Arrays, Path, Path], Arrays], str, str]] = {
    "depth18": (depth18, "dagan.npz", r"disp18_.*"),
    "depth50": (depth50, "dagan.npz", r"disp50_.*"),
    "pose": (pose, "dagan.npz", r"pose_.*"),
    "discriminator": (discriminator, "dagan.npz", r"disc_.*"),
    "motion": (motion, "dagan.npz", r"motion_(adaptive|relative|absolute)_.*"),
    "plain": (plain, "dagan.npz", r"kp_.*|deformation|DepthAwareGenerator\..*"),
    "spade": (spade, "dagan.npz", r"SPADEDepthAwareGenerator\..*"),
    "fomm": (fomm, "fomm.npz", r"kp_.*|prediction|mask|occlusion_map|deformed"),
}
WHOLE = ("plain", "spade", "fomm")
INPUTS = r"source_image|driving_image|driving_next|motion_in_.*"


def _keypoints(name: str, kp: Keypoints) -> Arrays:
    return {f"{name}_value": kp.value, f"{name}_jacobian": kp.jacobian}


@torch.no_grad()
def compare(part: str, golden: Path = GOLDEN, change: Change = lambda model: model) -> Iterator[Row]:
    """Compute one part of `PARTS` and compare it with its arrays; `change` is made to whole models before."""
    compute, file, pattern = PARTS[part]
    with np.load(golden / file) as arrays, tempfile.TemporaryDirectory() as folder:
        found = (
            compute(arrays, golden, Path(folder), change) if part in WHOLE else compute(arrays, golden, Path(folder))
        )
        for name in (name for name in arrays if re.fullmatch(pattern, name)):
            ours, expected = found[name], torch.from_numpy(arrays[name])
            assert ours.shape == expected.shape, f"{name}: {tuple(ours.shape)}, expected {tuple(expected.shape)}"
            relative = name == "pose_intrinsics"
            difference = (ours - expected).abs() / (expected.abs().clamp_min(1) if relative else 1)
            tolerance = 1e-5 if relative else 1e-6 if name.endswith("attention_rows") else 1e-4
            yield Row(f"fomm.{name}" if part == "fomm" else name, difference.max().item(), tolerance)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare every array of the reference networks with ours.")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder with the .npz and .json files")
    parser.add_argument("--optimized", action="store_true", help="compare the whole models as `optimize` leaves them")
    args = parser.parse_args()
    print(f"{'array':46} max abs difference   tolerance")
    worst = 0.0
    for part in WHOLE if args.optimized else PARTS:
        for row in compare(part, args.golden, optimize if args.optimized else lambda model: model):
            print(f"{row.name:46} {row.difference:18.1e} {row.tolerance:11.0e}", flush=True)
            worst = max(worst, row.difference / row.tolerance)
    raise SystemExit(0 if worst <= 1 else "a difference is above its tolerance")


if __name__ == "__main__":
    main()
