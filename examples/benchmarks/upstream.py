"""Code of other repositories with trained generators, for checks beside this library: networks, training, demo loop.

Configurations are the released ones, weights random. Nothing of the code is part of this library.
"""

import functools
import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import skimage.draw
import skimage.util
import torch
import torchvision.models.vgg
import yaml
from torch import Tensor, nn

UNUSED = ("cv2", "face_alignment", "ffmpeg", "pandas", "sklearn", "sklearn.model_selection")
Nets = dict[str, nn.Module]


class Upstream(NamedTuple):
    """A family's code: its networks by name, detector and generator first, and what it does with them."""

    nets: Nets
    call: Callable[[Nets, Tensor, Tensor], Mapping[str, Any]]
    losses: Callable[[Nets, dict[str, Tensor]], Mapping[str, Tensor]] | None
    demo: Callable[[Nets, np.ndarray, list[np.ndarray]], Any]
    size: int = 128


def config_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def seeded(model: nn.Module, *args: Any) -> Any:
    """Losses of a training model, whose random transforms are the same every time."""
    torch.manual_seed(1)
    return model(*args)[0]


def fomm(checkout: Path, generator_module: str = "modules.generator") -> Upstream:
    config = config_of(checkout / "config/vox-256.yaml")
    params, train = config["model_params"], config["train_params"]
    common = params["common_params"]
    load = importlib.import_module
    full, demo = load("modules.model").GeneratorFullModel, load("demo")
    detector = load("modules.keypoint_detector").KPDetector(**params["kp_detector_params"], **common)
    generator = load(generator_module).OcclusionAwareGenerator(**params["generator_params"], **common)
    judge = load("modules.discriminator").MultiScaleDiscriminator(**params["discriminator_params"], **common)

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        if hasattr(nets["generator"], "encode_source"):
            nets["generator"].encode_source(source)
        return nets["generator"](source, kp_source=nets["kp"](source), kp_driving=nets["kp"](driving))

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        if hasattr(nets["generator"], "encode_source"):
            nets["generator"].encode_source(batch["source"])
        torch.manual_seed(0)  # of the perceptual network
        return seeded(full(nets["kp"], nets["generator"], nets["judge"], train), batch)

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        if hasattr(nets["generator"], "encode_source"):
            nets["generator"].encode_source(torch.tensor(source[None].transpose(0, 3, 1, 2)))
        return demo.make_animation(source, frames, nets["generator"], nets["kp"], relative=True, cpu=True)

    return Upstream({"kp": detector, "generator": generator, "judge": judge}, call, losses, animation)


def avatarify(checkout: Path) -> Upstream:
    return fomm(checkout, "modules.generator_optim")


def tpsmm(checkout: Path) -> Upstream:
    config = config_of(checkout / "config/vox-256.yaml")
    params, train = config["model_params"], config["train_params"]
    common, load = params["common_params"], importlib.import_module
    nets = {
        "kp": load("modules.keypoint_detector").KPDetector(**common),
        "generator": load("modules.inpainting_network").InpaintingNetwork(**params["generator_params"], **common),
        "motion": load("modules.dense_motion").DenseMotionNetwork(**common, **params["dense_motion_params"]),
        "background": load("modules.bg_motion_predictor").BGMotionPredictor(),
    }
    full, demo = load("modules.model").GeneratorFullModel, load("demo")

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        kp = {"kp_source": nets["kp"](source), "kp_driving": nets["kp"](driving)}
        return nets["generator"](source, nets["motion"](source_image=source, bg_param=None, dropout_flag=False, **kp))

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        torch.manual_seed(0)
        model = full(nets["kp"], nets["background"], nets["motion"], nets["generator"], train)
        return seeded(model, batch, 50)  # an epoch with all losses

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        return demo.make_animation(source, frames, nets["generator"], nets["kp"], nets["motion"], None, "cpu")

    return Upstream(nets, call, losses, animation)


def mraa(checkout: Path) -> Upstream:
    config = config_of(checkout / "config/vox256.yaml")
    params, load = config["model_params"], importlib.import_module
    common = {name: params[name] for name in ("num_regions", "num_channels")}
    axes = {"revert_axis_swap": params["revert_axis_swap"]}
    affine = {"estimate_affine": params["estimate_affine"]}
    predictor = load("modules.region_predictor").RegionPredictor
    nets = {
        "regions": predictor(**common, **affine, **params["region_predictor_params"]),
        "generator": load("modules.generator").Generator(**common, **axes, **params["generator_params"]),
        "background": load("modules.bg_motion_predictor").BGMotionPredictor(
            num_channels=params["num_channels"], **params["bg_predictor_params"]
        ),
    }
    full, demo = load("modules.model").ReconstructionModel, load("demo")

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        regions = {"source_region_params": nets["regions"](source), "driving_region_params": nets["regions"](driving)}
        return nets["generator"](source, **regions)

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        torch.manual_seed(0)
        model = full(nets["regions"], nets["background"], nets["generator"], config["train_params"])
        return seeded(model, batch)

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        options: Any = {"animation_mode": "relative", "cpu": True}
        return demo.make_animation(source, frames, nets["generator"], nets["regions"], None, **options)

    return Upstream(nets, call, losses, animation)


def cosegmentation(checkout: Path) -> Upstream:
    config = config_of(checkout / "config/vox-256-sem-10segments.yaml")
    params, load = config["model_params"], importlib.import_module
    common, swap = params["common_params"], load("part_swap")
    nets = {
        "segmentation": load("modules.segmentation_module").SegmentationModule(
            **params["segmentation_module_params"], **common
        ),
        "generator": load("modules.reconstruction_module").ReconstructionModule(
            **params["reconstruction_module_params"], **common
        ),
    }
    full = load("modules.model").FullModel

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        segments = {"seg_target": nets["segmentation"](driving), "seg_source": nets["segmentation"](source)}
        return nets["generator"](source, **segments)

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        torch.manual_seed(0)
        model = full(nets["segmentation"], nets["generator"], config["train_params"])
        return seeded(model, {"source": batch["source"], "target": batch["driving"]})

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        bare = getattr(nets["generator"], "model", nets["generator"])
        with mock.patch.object(bare, "forward", functools.partial(swap.PartSwapGenerator.forward, bare)):
            bare.blend_downsample, bare.dense_motion_network = lambda x: x, None  # as with its blend_scale of 1
            return swap.make_video([1, 2], source, frames, nets["generator"], nets["segmentation"], cpu=True)

    return Upstream(nets, call, losses, animation)


def osfv(checkout: Path, generator: str = "OcclusionAwareGenerator") -> Upstream:
    config = config_of(checkout / "config/vox-256.yaml")
    params, train, load = config["model_params"], config["train_params"], importlib.import_module
    common, keypoints, demo = params["common_params"], load("modules.keypoint_detector"), load("demo")
    model, judges = load("modules.model"), load("modules.discriminator")
    nets = {
        "kp": keypoints.KPDetector(**params["kp_detector_params"], **common),
        "generator": getattr(load("modules.generator"), generator)(**params["generator_params"], **common),
        "pose": keypoints.HEEstimator(**params["he_estimator_params"], **common),
        "judge": judges.MultiScaleDiscriminator(**params["discriminator_params"], **common),
    }
    jacobian = common["estimate_jacobian"]

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        canonical = nets["kp"](source)
        poses = {"kp_source": nets["pose"](source), "kp_driving": nets["pose"](driving)}
        kp = {name: model.keypoint_transformation(canonical, pose, jacobian) for name, pose in poses.items()}
        return nets["generator"](source, **kp)

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:  # random weights for its estimator of true poses, too
            hopenet = model.hopenet.Hopenet(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3], 66)
            torch.save(hopenet.state_dict(), f"{folder}/hopenet.pkl")
            options = {**train, "hopenet_snapshot": f"{folder}/hopenet.pkl"}
            parts = (nets[name] for name in ("kp", "pose", "generator", "judge"))
            return seeded(model.GeneratorFullModel(*parts, options, jacobian), batch)

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        parts = (nets[name] for name in ("generator", "kp", "pose"))
        return demo.make_animation(source, frames, *parts, estimate_jacobian=jacobian, cpu=True)

    return Upstream(nets, call, losses, animation)


def osfv_spade(checkout: Path) -> Upstream:
    return osfv(checkout, "OcclusionAwareSPADEGenerator")


def sadtalker(checkout: Path) -> Upstream:
    params = config_of(checkout / "src/config/facerender.yaml")["model_params"]
    common, load = params["common_params"], functools.partial(importlib.import_module, package="src.facerender.modules")
    generators, render = load(".generator"), load(".make_animation")
    nets = {
        "kp": load(".keypoint_detector").KPDetector(**params["kp_detector_params"], **common),
        "generator": generators.OcclusionAwareSPADEGenerator(**params["generator_params"], **common),
        "mapping": load(".mapping").MappingNet(**params["mapping_params"]),
    }

    def semantics(images: Tensor) -> Tensor:
        """Coefficients of 27 frames, made of an image in place of the audio's."""
        return images.mean(1).flatten(1)[:, : 70 * 27].reshape(-1, 70, 27)

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        canonical = nets["kp"](source)
        poses = {"kp_source": semantics(source), "kp_driving": semantics(driving)}
        kp = {k: render.keypoint_transformation(canonical, nets["mapping"](x)) for k, x in poses.items()}
        return nets["generator"](source, **kp)

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        image, driving = (torch.tensor(np.stack(x)).permute(0, 3, 1, 2) for x in ([source], frames))
        generator, kp, mapping = (nets[name] for name in ("generator", "kp", "mapping"))
        return render.make_animation(image, semantics(image), semantics(driving)[None], generator, kp, None, mapping)

    return Upstream(nets, call, None, animation)


def mcnet(checkout: Path) -> Upstream:
    config = config_of(checkout / "config/vox-256.yaml")
    params, load = config["model_params"], importlib.import_module
    common = {**params["common_params"], "num_kp": 15}  # as its memory unit expects, and its README states
    memory = {"mbunit": "ExpendMemoryUnit", "mb_spatial": 32, "mb_channel": 512}
    generator = load("modules.generator").Unet_Generator_keypoint_aware
    judges, demo, full = load("modules.discriminator"), load("demo"), load("modules.model").GeneratorFullModel
    nets = {
        "kp": load("modules.keypoint_detector").KPDetector(**params["kp_detector_params"], **common),
        "generator": generator(**params["generator_params"], **common, **memory),
        "judge": judges.MultiScaleDiscriminator(**params["discriminator_params"], **common),
    }
    nn.init.zeros_(nets["generator"].mbUnit.conv_kv.bias)  # of uninitialized memory

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        return nets["generator"](source, kp_source=nets["kp"](source), kp_driving=nets["kp"](driving))

    def losses(nets: Nets, batch: dict[str, Tensor]) -> Any:
        torch.manual_seed(0)
        parts = (nn.DataParallel(nets[name]) for name in ("kp", "generator", "judge"))  # it reads their .module
        return seeded(full(*parts, config["train_params"], None), batch)

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        return demo.make_animation(source, frames, nets["generator"], nets["kp"], cpu=True)

    return Upstream(nets, call, losses, animation, size=256)


def liveportrait(checkout: Path) -> Upstream:
    params, load = config_of(checkout / "src/config/models.yaml")["model_params"], importlib.import_module
    wrapper = load("src.live_portrait_wrapper").LivePortraitWrapper
    helper = load("src.utils.helper")
    nets = {
        "motion": helper.MotionExtractor(**params["motion_extractor_params"]),
        "warping": helper.WarpingNetwork(**params["warping_module_params"]),
        "appearance": helper.AppearanceFeatureExtractor(**params["appearance_feature_extractor_params"]),
        "decoder": helper.SPADEDecoder(**params["spade_generator_params"]),
    }

    def portrait(nets: Nets) -> Any:
        """Its wrapper, with these networks instead of downloaded ones."""
        it = object.__new__(wrapper)
        it.inference_cfg = SimpleNamespace(flag_use_half_precision=False, input_shape=(128, 128))
        it.device, it.compile = "cpu", False
        it.motion_extractor, it.warping_module = nets["motion"], nets["warping"]
        it.appearance_feature_extractor, it.spade_generator = nets["appearance"], nets["decoder"]
        return it

    def depth(nets: Nets, source: Tensor) -> dict[str, Any]:
        return {"depth": nets["warping"].encode_depth(source)} if hasattr(nets["warping"], "encode_depth") else {}

    def call(nets: Nets, source: Tensor, driving: Tensor) -> Any:
        kp_source, kp_driving = (nets["motion"](x)["kp"].reshape(len(x), -1, 3) for x in (source, driving))
        feature, given = nets["appearance"](source), depth(nets, source)
        out = nets["warping"](feature, kp_source=kp_source, kp_driving=kp_driving, **given)
        return {**out, "prediction": nets["decoder"](feature=out["out"])}

    def animation(nets: Nets, source: np.ndarray, frames: list[np.ndarray]) -> Any:
        it = portrait(nets)
        image, *driving = (it.prepare_source((255 * x).astype(np.uint8)) for x in (source, *frames))
        feature, kp = it.extract_feature_3d(image), it.transform_keypoint(it.get_kp_info(image))

        def loop() -> list[Tensor]:
            moved = (it.transform_keypoint(it.get_kp_info(frame)) for frame in driving)
            return [it.warp_decode(feature, kp, x)["out"] for x in moved]

        if "depth" not in depth(nets, image):
            return loop()
        with nets["warping"].with_depth(nets["warping"].encode_depth(image)):
            return loop()

    return Upstream(nets, call, None, animation)


UPSTREAM: dict[str, tuple[str, Callable[[Path], Upstream]]] = {
    "fomm": ("fomm", fomm),
    "avatarify": ("fomm", avatarify),
    "tpsmm": ("tpsmm", tpsmm),
    "mraa": ("mraa", mraa),
    "cosegmentation": ("cosegmentation", cosegmentation),
    "osfv": ("osfv", osfv),
    "osfv-spade": ("osfv", osfv_spade),
    "sadtalker": ("osfv", sadtalker),
    "mcnet": ("mcnet", mcnet),
    "liveportrait": ("liveportrait", liveportrait),
}


def prepare(checkout: Path) -> None:
    """Let old code run: on a CPU, without downloads, and without packages that it imports and that are not used."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, str(checkout))
    for module in UNUSED:
        try:
            importlib.import_module(module)
        except ImportError:
            sys.modules[module] = mock.MagicMock()
    if not torch.cuda.is_available():
        for kind in (Tensor, nn.Module):
            kind.cuda = lambda self, *_: self  # type: ignore[assignment,method-assign]
    skimage.draw.circle, skimage.util.pad = skimage.draw.disk, np.pad  # names in new versions; not called here
    layers = torchvision.models.vgg.cfgs["E"]
    torchvision.models.vgg19 = lambda pretrained=False: SimpleNamespace(
        features=torchvision.models.vgg.make_layers(layers)
    )
