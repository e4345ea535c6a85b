"""Convert DaGAN, FOMM and depth-network checkpoints; the only reader of pickled (``.pth``) files.

Each `read_...` returns ``(options, tensors)``: the constructor options of one of the library's classes, inferred from
the shapes, and its state dict. Only names change; whether the tensors fit is checked where the model is built.
"""

import re
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..media.memory import needing_memory
from .downloads import check_checkpoint
from .pickles import check_pickles, numpy_scalars
from .renaming import DEPTH_DECODER, DETECTOR, GENERATOR, POSE_DECODER, rename
from .tensors import check_plain

Tensors = dict[str, Tensor]
_lock = threading.Lock()
_MOST_TENSORS = 10_000
Converted = tuple[dict[str, Any], Tensors]

# (blocks of the four stages, whether they are bottlenecks) -> name and channels of the last stage
_RESNETS: dict[tuple[tuple[int, ...], bool], tuple[str, int]] = {
    ((2, 2, 2, 2), False): ("resnet18", 512),
    ((3, 4, 6, 3), False): ("resnet34", 512),
    ((3, 4, 6, 3), True): ("resnet50", 2048),
    ((3, 4, 23, 3), True): ("resnet101", 2048),
    ((3, 8, 36, 3), True): ("resnet152", 2048),
}


def load(path: str | Path) -> dict[str, Any]:
    """Load the dict in a ``.pth`` file. Only plain data and tensors are read: no code in the file is run."""
    check_checkpoint(path)
    try:
        check_pickles(path)
        with needing_memory(str(path)), _lock, torch.serialization.safe_globals(numpy_scalars()):  # of the process
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle raises nearly any type
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it imports {refused[1]}, which may run code" if refused else "foreign, cut short or damaged"
        raise ValueError(f"{path}: not a PyTorch checkpoint that is safe to read: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a checkpoint (a dict), found a {type(content).__name__}")
    return content


def read_model(
    path: str | Path, depth_dir: str | Path | None = None, *, align_corners: bool | None = None
) -> Converted:
    """Read options and weights of `DaGAN` from a DaGAN or FOMM ``.pth.tar``.

    Args:
        path: the checkpoint.
        depth_dir: folder with its depth network, ``encoder.pth`` and ``depth.pth``; for a DaGAN checkpoint alone.
        align_corners: the sampling that the weights were trained with; if None, False for DaGAN (trained on torch 1.9)
            and True for FOMM (on torch 1.0, which had no other).

    Raises:
        ValueError: if a file cannot be read safely, or is no such checkpoint.
    """
    content = load(path)
    detector, generator = _entry(content, "kp_detector", path), _entry(content, "generator", path)
    scales = _pop_scale(detector, "down.weight", path), _pop_scale(generator, "dense_motion_network.down.weight", path)
    tensors = {
        f"kp_detector.{key}": tensor for key, tensor in rename(detector, DETECTOR, f"{path}: kp_detector").items()
    }
    tensors |= rename(generator, GENERATOR, f"{path}: generator")
    options = _model_options(tensors, path) | {"scale_factor": _same("scale", *scales, path)}
    has_depth = options["keypoint_input"] != "rgb" or options["attention"] == "cross"
    options["align_corners"] = not has_depth if align_corners is None else align_corners
    if has_depth and depth_dir is None:
        raise ValueError(
            f"{path}: a DaGAN checkpoint, whose depth network is stored apart; "
            "expected its folder too (depth_dir, --depth-dir), got none"
        )
    if depth_dir is not None and not has_depth:
        raise ValueError(f"{path}: a checkpoint without depth (FOMM); expected no depth network, got {depth_dir}")
    if depth_dir is not None:
        depth_options, depth = read_depth(depth_dir)
        options |= {"depth_encoder": depth_options["encoder"], "depth_channels": depth_options["decoder_channels"]}
        tensors |= {f"depth_net.{key}": tensor for key, tensor in depth.items()}
    return options, tensors


def read_depth(folder: str | Path) -> Converted:
    """Read options and weights of `SelfSupDepthNet` from a folder with ``encoder.pth`` and ``depth.pth``."""
    encoder_path, decoder_path = Path(folder) / "encoder.pth", Path(folder) / "depth.pth"
    name, channels, encoder = _read_encoder(encoder_path, 3)
    decoder = rename(_tensors(load(decoder_path), decoder_path), DEPTH_DECODER, decoder_path)
    reduce = [_shape(decoder, f"reduce.{level}.weight", decoder_path) for level in range(5)]
    if reduce[4][1] != channels:
        raise ValueError(
            f"{decoder_path}: belongs to another depth network, it takes {reduce[4][1]} channels; "
            f"{encoder_path} is a {name}, which gives {channels}"
        )
    return {"encoder": f"{name}.tv_in1k", "decoder_channels": [shape[0] for shape in reduce]}, encoder | decoder


def read_pose(folder: str | Path) -> Converted:
    """Read options and weights of `PoseNet` from a folder with ``pose_encoder.pth`` and ``pose.pth``."""
    decoder_path = Path(folder) / "pose.pth"
    name, _, encoder = _read_encoder(Path(folder) / "pose_encoder.pth", 6)
    decoder = rename(_tensors(load(decoder_path), decoder_path), POSE_DECODER, decoder_path)
    return {"encoder": f"{name}.tv_in1k", "intrinsics": "released"}, encoder | decoder


def read_discriminator(path: str | Path) -> Converted:
    """Read options and weights of `MultiScaleDiscriminator` from a DaGAN or FOMM ``.pth.tar``."""
    state = _entry(load(path), "discriminator", path)
    # Named by scale, "1" or "0-5" for 0.5; here they are numbered, full size first.
    names = sorted({match[1] for key in state if (match := re.match(r"discs\.(\d+(?:-\d+)?)\.", key))}, reverse=True)
    prefixes = {f"discs.{name}.": f"discs.{i}." for i, name in enumerate(names)}
    tensors = rename(state, prefixes, f"{path}: discriminator")
    first = _shape(tensors, "discs.0.down_blocks.0.conv.weight", path)
    return {
        "num_keypoints": first[1] - 3,
        "scales": [float(name.replace("-", ".")) for name in names],
        "block_expansion": first[0],
        "max_features": _shape(tensors, "discs.0.conv.weight", path)[1],
        "num_blocks": _count(tensors, "discs.0.down_blocks."),
    }, tensors


def _model_options(tensors: Tensors, path: str | Path) -> dict[str, Any]:
    """Options of `DaGAN` that follow from shapes, except those of the depth network."""

    def hourglass(prefix: str) -> tuple[int, int, int]:  # block_expansion, max_features, num_blocks
        blocks = _count(tensors, f"{prefix}.down_blocks.")
        last = max(blocks - 1, 0)
        width = _shape(tensors, f"{prefix}.up_blocks.{last}.conv.weight", path)[0]
        return width, _shape(tensors, f"{prefix}.down_blocks.{last}.conv.weight", path)[0], blocks

    kp, motion = hourglass("kp_detector.hourglass"), hourglass("dense_motion.hourglass")
    channels = _shape(tensors, "kp_detector.hourglass.down_blocks.0.conv.weight", path)[1]
    if channels not in (1, 3, 4):
        raise ValueError(
            f"{path}: the detector takes {channels} channels, expected 3 (RGB), 4 (RGB and depth) or 1 (depth)"
        )
    down_blocks = _count(tensors, "generator.appearance_encoder.down_blocks.")
    last = f"generator.appearance_encoder.down_blocks.{max(down_blocks - 1, 0)}.conv.weight"
    spade = _count(tensors, "generator.decoder.middle.") > 0
    counts = [_shape(tensors, key, path)[0] for key in ("kp_detector.kp.weight", "dense_motion.mask.weight")]
    options = {
        "num_keypoints": _same("number of key points", counts[0], counts[1] - 1, path),
        "keypoint_input": {1: "depth", 3: "rgb", 4: "rgbd"}[channels],
        "estimate_jacobian": _count(tensors, "kp_detector.jacobian.") > 0,
        "attention": _attention(tensors),
        "decoder": "spade" if spade else "plain",
        "detector_block_expansion": kp[0],
        "motion_block_expansion": motion[0],
        "hourglass_max_features": max(kp[1], motion[1]),
        "num_hourglass_blocks": _same("number of hourglass blocks", kp[2], motion[2], path),
        "generator_block_expansion": _shape(tensors, "generator.appearance_encoder.first.conv.weight", path)[0],
        "generator_max_features": _shape(tensors, last, path)[0],
        "num_down_blocks": down_blocks,
    }
    return options if spade else options | {"num_bottleneck_blocks": _count(tensors, "generator.decoder.bottleneck.")}


def _attention(tensors: Tensors) -> str:
    if _count(tensors, "generator.depth_encoder."):
        return "cross"
    return "self" if _count(tensors, "generator.attention.") else "none"


def _read_encoder(path: Path, in_channels: int) -> tuple[str, int, Tensors]:
    """Name, output channels and weights of a ResNet, without its classifier and the stored training size."""
    content = {key: value for key, value in load(path).items() if key not in ("height", "width", "use_stereo")}
    state = {key: tensor for key, tensor in _tensors(content, path).items() if not key.startswith("encoder.fc.")}
    tensors = rename(state, {"encoder.": "encoder."}, path)
    found = _shape(tensors, "encoder.conv1.weight", path)[1]
    if found != in_channels:
        kinds = {3: "a depth encoder", 6: "a pose encoder"}
        raise ValueError(
            f"{path}: expected {kinds[in_channels]} ({in_channels} input channels), "
            f"found {kinds.get(found, 'an encoder')} ({found})"
        )
    blocks = tuple(_count(tensors, f"encoder.layer{stage}.") for stage in range(1, 5))
    bottleneck = "encoder.layer1.0.conv3.weight" in tensors
    if (blocks, bottleneck) not in _RESNETS:
        raise ValueError(f"{path}: expected a ResNet-18, 34, 50, 101 or 152, found stages of {blocks} blocks")
    return *_RESNETS[blocks, bottleneck], tensors


def _entry(content: dict[str, Any], name: str, path: str | Path) -> Tensors:
    if not isinstance(content.get(name), dict):
        found = ", ".join(map(_name, list(content)[:6])) or "nothing"
        raise ValueError(f"{path}: expected a DaGAN or FOMM checkpoint with {name}, found {found}")
    return _tensors(content[name], f"{path}: {name}")


def _tensors(state: dict[str, Any], name: str | Path) -> Tensors:
    """A state dict without the ``module.`` prefix of DataParallel."""
    if len(state) > _MOST_TENSORS:
        raise ValueError(f"{name}: expected tensors by name, at most {_MOST_TENSORS}, found {len(state)}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"{name}: expected tensors by name, found a {type(value).__name__} under {_name(key)!r}")
    check_plain(state, str(name))
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def _name(key: Any) -> str:
    """A key for an error; one that is no string may be of any size and depth."""
    return key[:100] if isinstance(key, str) else f"a {type(key).__name__}"


def _pop_scale(state: Tensors, key: str, path: str | Path) -> float:
    """Remove the anti-aliasing kernel, which follows from the scale (`AntiAliasDownsample`), and return the scale."""
    if key not in state:
        return 1.0
    shape = tuple(state.pop(key).shape)
    if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3] or shape[2] % 4 != 1:
        raise ValueError(
            f"{path}: {key} is {shape}, expected an anti-aliasing kernel (C, 1, n, n) with n = 4 / scale - 3"
        )
    return 4 / (shape[2] + 3)


def _shape(tensors: Tensors, key: str, path: str | Path) -> tuple[int, ...]:
    """Shape of a convolution's weight."""
    if key not in tensors:
        raise ValueError(f"{path}: missing {key}")
    if tensors[key].ndim != 4:
        raise ValueError(f"{path}: {key} is {tuple(tensors[key].shape)}, expected the 4 dimensions of a convolution")
    return tuple(tensors[key].shape)


def _count(tensors: Tensors, prefix: str) -> int:
    """Number of modules right below `prefix`."""
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})


def _same(quantity: str, detector: float, generator: float, path: str | Path) -> Any:
    if detector != generator:
        raise ValueError(
            f"{path}: the {quantity} of kp_detector is {detector}, of generator {generator}; expected the same"
        )
    return detector
