"""FOMM composed of this library's modules, with the calls and dictionaries of its authors' code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .._optional import require
from ..dagan import DaGAN
from ..generator import DepthAwareGenerator
from ..keypoints import Keypoints, RGBDKeypointDetector
from ..motion import DenseMotionNetwork
from ..pretrained.small_files import JSON_LIMIT, read_text


def keypoints(kp: Mapping[str, Tensor]) -> Keypoints:
    """Convert FOMM's dictionary of key points to `Keypoints`, for losses and motion transfer."""
    if "value" not in kp:
        raise ValueError(f"key points: expected 'value' and 'jacobian', found {', '.join(kp) or 'nothing'}")
    return Keypoints(kp["value"], kp.get("jacobian"))


class FOMMKeypointDetector(nn.Module):
    """`RGBDKeypointDetector` with the call of FOMM's: image (B, 3, H, W) -> {"value": ..., "jacobian": ...}."""

    def __init__(self, detector: RGBDKeypointDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        kp = self.detector(image)
        return {name: tensor for name, tensor in kp._asdict().items() if tensor is not None}


class FOMMGenerator(nn.Module):
    """`DenseMotionNetwork` and `DepthAwareGenerator` with the call of FOMM's generator, which contains both."""

    num_channels = 3  # read by FOMM's training code

    def __init__(
        self, dense_motion: DenseMotionNetwork, generator: DepthAwareGenerator, config: dict[str, Any]
    ) -> None:
        super().__init__()
        self.config = config  # of a DaGAN of these networks
        self.dense_motion_network, self.generator = dense_motion, generator

    def forward(
        self, source_image: Tensor, kp_driving: Mapping[str, Tensor], kp_source: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        motion = self.dense_motion_network(source_image, keypoints(kp_source), keypoints(kp_driving))
        frame = self.generator(source_image, None, motion)
        names = ("mask", "sparse_deformed", "occlusion_map")
        return {name: getattr(motion, name) for name in names} | frame._asdict()


def load_fomm(
    checkpoint: str | Path, config: str | Path | Mapping[str, Any] | None = None, *, align_corners: bool = True
) -> tuple[FOMMKeypointDetector, FOMMGenerator]:
    """Load a released FOMM without the authors' code, in eval mode.

    Args:
        checkpoint: `vox-adv-cpk.pth.tar` or the like.
        config: FOMM's YAML file or its content. Only the temperature is taken from it; the other options follow from
            the checkpoint and are compared with it.
        align_corners: sampling that the weights were trained with; False from PyTorch 1.3 on, see `warp`.

    Returns:
        Key point detector and generator, with the calls of the authors' code.

    Raises:
        ValueError: if the checkpoint cannot be read safely, is not FOMM's, or does not fit the config.
        ImportError: if the config is a file and PyYAML is not installed.
    """
    model = DaGAN.from_checkpoint(checkpoint, align_corners=align_corners)
    if model.config["attention"] != "none":
        raise ValueError(f"{checkpoint}: expected a FOMM, found attention in its generator")
    if config is not None:
        model.kp_detector.temperature = _read_config(config, model.config)
    generator = FOMMGenerator(model.dense_motion, model.generator, model.config)
    return FOMMKeypointDetector(model.kp_detector).eval(), generator.eval()


def _read_config(config: str | Path | Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """Read the temperature, and compare the other options with those found in the checkpoint."""
    try:
        content: Any = config if isinstance(config, Mapping) else _read_yaml(Path(config))
        params = content["model_params"]
        stated, temperature = _stated(params), float(params["kp_detector_params"]["temperature"])
    except OSError as error:
        raise ValueError(f"{config}: cannot be read ({error.strerror})") from error
    except ImportError:
        raise
    except Exception as error:  # damaged YAML, or any other content
        line = str(error).splitlines()[0]
        raise ValueError(f"config: expected FOMM's model_params, found other content ({line})") from error
    for option, (name, value) in stated.items():
        if value != found[option]:
            raise ValueError(f"config: expected the checkpoint's {name} {found[option]}, got {value}")
    return temperature


def _read_yaml(path: Path) -> Any:
    return require("yaml", pip="pyyaml").safe_load(read_text(path, JSON_LIMIT))


def _stated(params: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Option of `DaGAN` -> (FOMM's name, value), for options that also follow from the shapes of the weights."""
    generator, detector = params["generator_params"], params["kp_detector_params"]
    motion = generator["dense_motion_params"]
    names = {
        "num_keypoints": (params["common_params"], "num_kp"),
        "detector_block_expansion": (detector, "block_expansion"),
        "motion_block_expansion": (motion, "block_expansion"),
        "generator_block_expansion": (generator, "block_expansion"),
        "num_hourglass_blocks": (detector, "num_blocks"),
        "num_down_blocks": (generator, "num_down_blocks"),
        "num_bottleneck_blocks": (generator, "num_bottleneck_blocks"),
    }
    scale = "scale_factor", motion.get("scale_factor", 1)
    return {option: (name, part[name]) for option, (part, name) in names.items()} | {"scale_factor": scale}
