"""Small networks built like those of further families of generators: their calls, dictionaries and part names."""

from collections.abc import Callable
from typing import NamedTuple

import standins
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthaware.blocks import AntiAliasDownsample, DownBlock, Hourglass, ResBlock, SameBlock, UpBlock
from depthaware.geometry import coordinate_grid

KP = dict[str, Tensor]
NUM = 3


def shift_of(kp_source: KP | Tensor, kp_driving: KP | Tensor, name: str = "value") -> Tensor:
    """Motion common to all key points, (B, 1, 1, 2)."""
    a, b = (kp if isinstance(kp, Tensor) else kp[name] for kp in (kp_source, kp_driving))
    shift = (a - b)[..., :2].mean(1)
    for frames in {"jacobian", "affine"} & set(() if isinstance(kp_source, Tensor) else kp_source):
        shift = shift + (kp_source[frames] - kp_driving[frames]).mean((1, 2))
    return shift[:, None, None]


def warp(feature: Tensor, shift: Tensor) -> Tensor:
    grid = coordinate_grid(*feature.shape[-2:], dtype=shift.dtype) + shift
    return F.grid_sample(feature, grid.to(feature.dtype), align_corners=True)


class Heads(nn.Module):
    """Detector with heads at an hourglass."""

    def __init__(self, **channels: int) -> None:
        super().__init__()
        self.predictor = Hourglass(3, block_expansion=4, max_features=8, num_blocks=2)
        for name, count in channels.items():
            setattr(self, name, nn.Conv2d(self.predictor.out_channels, count, 3, padding=1))
        self.down = AntiAliasDownsample(3, 0.25)

    def read(self, image: Tensor, points: str, frames: str | None) -> tuple[Tensor, Tensor, Tensor]:
        feature = self.predictor(self.down(image))
        heatmap = self.get_submodule(points)(feature).flatten(2).softmax(-1)
        grid = coordinate_grid(*feature.shape[-2:], dtype=image.dtype).flatten(0, 1)
        maps = self.get_submodule(frames)(feature).unflatten(1, (-1, 4)).flatten(3) if frames else heatmap[:, :, None]
        frames_of = (heatmap[:, :, None] * maps).sum(-1).expand(-1, -1, 4).unflatten(-1, (2, 2))
        return feature, heatmap @ grid, frames_of + torch.eye(2, dtype=image.dtype)


class RegionPredictor(Heads):
    def __init__(self, regressed: bool = True) -> None:
        super().__init__(regions=NUM, **({"jacobian": 4} if regressed else {}))
        self.regressed = regressed

    def forward(self, x: Tensor) -> KP:
        _, shift, affine = self.read(x, "regions", "jacobian" if self.regressed else None)
        return {"shift": shift, "affine": affine, "covar": affine @ affine.mT}


class SegmentationModule(Heads):
    def __init__(self) -> None:
        super().__init__(shift=NUM, affine=4 * NUM, segmentation=NUM + 1)

    def forward(self, x: Tensor) -> KP:
        feature, shift, affine = self.read(x, "shift", "affine")
        return {"segmentation": self.segmentation(feature).softmax(1), "shift": shift, "affine": affine}


class Encoder(nn.Module):
    """Appearance encoder with widths 4, 8, 16."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SameBlock(3, 4, kernel_size=7)
        self.down_blocks = nn.ModuleList([DownBlock(4, 8), DownBlock(8, 16)])

    def encode(self, image: Tensor) -> list[Tensor]:
        features = [self.first(image)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features


class Bottleneck(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(ResBlock(16), ResBlock(16))
        self.up_blocks = nn.Sequential(UpBlock(16, 8), UpBlock(8, 4))
        self.final = nn.Conv2d(4, 3, 7, padding=3)

    def decode(self, warped: Tensor) -> KP:
        return {"prediction": self.final(self.up_blocks(self.bottleneck(warped))).sigmoid()}


class MRAAGenerator(Bottleneck):
    def __init__(self) -> None:
        super().__init__()
        self.pixelwise_flow_predictor = nn.Conv2d(3, 1, 3, padding=1, stride=4)

    def forward(self, source_image: Tensor, driving_region_params: KP, source_region_params: KP) -> KP:
        shift = shift_of(source_region_params, driving_region_params, "shift")
        occlusion_map = self.pixelwise_flow_predictor(source_image).sigmoid()
        return self.decode(warp(self.encode(source_image)[-1], shift) * occlusion_map)


class ReconstructionModule(Bottleneck):
    def forward(self, source_image: Tensor, seg_target: KP, seg_source: KP) -> KP:
        visibility = 1 - seg_source["segmentation"][:, :1] * seg_target["segmentation"][:, :1]
        warped = warp(self.encode(source_image)[-1], shift_of(seg_source, seg_target, "shift"))
        return self.decode(warped * visibility)


class CanonicalDetector(nn.Module):
    """Key points in three dimensions, from a volume of depth 2."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = nn.Sequential(DownBlock(3, 8), DownBlock(8, 16))
        self.kp = nn.Conv3d(8, NUM, 3, padding=1)

    def forward(self, x: Tensor) -> KP:
        volume = self.kp(self.predictor(x).unflatten(1, (8, 2)))
        return {"value": torch.stack([volume.mean((2, 3, 4)), volume.amax((2, 3, 4)), volume.amin((2, 3, 4))], -1)}


class VolumeMotion(nn.Module):
    """Warping of a volume whose slices are channels, and its occlusion map."""

    def __init__(self) -> None:
        super().__init__()
        self.occlusion = nn.Conv2d(16, 1, 3, padding=1)
        self.decoder = nn.Identity()  # of an hourglass: not the generator's

    def forward(self, feature: Tensor, kp_driving: KP | Tensor, kp_source: KP | Tensor) -> tuple[Tensor, Tensor]:
        flat = feature.flatten(1, 2)
        return warp(flat, shift_of(kp_source, kp_driving)), self.occlusion(flat).sigmoid()


class OSFVGenerator(Encoder):
    def __init__(self, spade: bool = False) -> None:
        super().__init__()
        self.second, self.fourth = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.resblocks_3d = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1))
        self.dense_motion_network, self.third = VolumeMotion(), SameBlock(16, 16)
        up = [UpBlock(16, 8), UpBlock(8, 4)]
        if spade:
            self.decoder = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), *up)
        else:
            self.resblocks_2d, self.up_blocks = nn.Sequential(ResBlock(16)), nn.Sequential(*up)
        self.final = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, source_image: Tensor, kp_driving: KP, kp_source: KP) -> KP:
        volume = self.resblocks_3d(self.second(self.encode(source_image)[-1]).unflatten(1, (8, 2)))
        warped, occlusion_map = self.dense_motion_network(volume, kp_driving, kp_source)
        out = self.fourth(self.third(warped)) * occlusion_map
        out = self.decoder(out) if hasattr(self, "decoder") else self.up_blocks(self.resblocks_2d(out))
        return {"prediction": self.final(out).sigmoid()}


class MemoryUnit(nn.Module):
    """One module for features of all widths, called once for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, feature: Tensor, keypoints: Tensor) -> Tensor:
        return feature * self.gain + keypoints.mean()


class MCNetGenerator(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.dense_motion_network = nn.Conv2d(3, 1, 3, padding=1)
        self.mbUnit, self.bottleneck = MemoryUnit(), nn.Sequential()
        self.resblock = nn.ModuleList(ResBlock(16) for _ in range(4))
        self.up_blocks = nn.ModuleList([UpBlock(16, 8), UpBlock(16, 4)])
        self.final = nn.Conv2d(4, 3, 7, padding=3)

    def forward(self, source_image: Tensor, kp_driving: KP, kp_source: KP, **kwargs: Tensor) -> KP:
        shift, occlusion_map = shift_of(kp_source, kp_driving), self.dense_motion_network(source_image).sigmoid()
        features = [warp(feature, shift) for feature in self.encode(source_image)[::-1]]
        features = [x * F.interpolate(occlusion_map, size=x.shape[-2:]) for x in features]
        out = self.mbUnit(features[0], keypoints=kp_source["value"])
        for i, up in enumerate(self.up_blocks):
            out = up(self.resblock[2 * i + 1](self.resblock[2 * i](out)))
            if i == 0:
                out = torch.cat([out, self.mbUnit(features[1], keypoints=kp_source["value"])], 1)
        return {"prediction": self.final(out + features[2]).sigmoid(), "occlusion_map": occlusion_map}


class MotionExtractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.detector = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.detector.add_module("fc_kp", nn.Linear(8, 3 * NUM))

    def forward(self, x: Tensor) -> KP:
        return {"kp": self.detector(x)}


class WarpingNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense_motion_network = VolumeMotion()
        self.third, self.fourth = SameBlock(16, 16), nn.Conv2d(16, 16, 1)

    def forward(self, feature_3d: Tensor, kp_driving: Tensor, kp_source: Tensor) -> KP:
        warped, occlusion_map = self.dense_motion_network(feature_3d, kp_driving, kp_source)
        return {"occlusion_map": occlusion_map, "out": self.fourth(self.third(warped)) * occlusion_map}


def portrait(nets: list[nn.Module], source: Tensor, driving: Tensor) -> KP:
    """LivePortrait's inference, whose warping network is given the depth of the source."""
    motion, warping = nets
    kp_source, kp_driving = (motion(x)["kp"].unflatten(1, (NUM, 3)) for x in (source, driving))
    volume = F.avg_pool2d(source.repeat(1, 6, 1, 1)[:, :16], 4).unflatten(1, (8, 2))
    given = {"depth": warping.encode_depth(source)} if hasattr(warping, "encode_depth") else {}
    out = warping(volume, kp_source=kp_source, kp_driving=kp_driving, **given)
    return {**out, "prediction": out["out"][:, :3]}


class Example(NamedTuple):
    """Networks of a family, with the names of the generator's arguments for key points of driving and source."""

    family: str
    networks: Callable[[], list[nn.Module]]
    arguments: tuple[str, str] = ("kp_driving", "kp_source")
    levels: int | None = None

    def call(self, nets: list[nn.Module], source: Tensor, driving: Tensor) -> KP:
        if self.family == "liveportrait":
            return portrait(nets, source, driving)
        given = zip(self.arguments, (nets[0](driving), nets[0](source)), strict=True)
        return nets[1](source, **dict(given))


EXAMPLES = {
    "mraa": Example(
        "mraa", lambda: [RegionPredictor(), MRAAGenerator()], ("driving_region_params", "source_region_params")
    ),
    "cosegmentation": Example(
        "cosegmentation", lambda: [SegmentationModule(), ReconstructionModule()], ("seg_target", "seg_source")
    ),
    "osfv": Example("osfv", lambda: [CanonicalDetector(), OSFVGenerator()]),
    "osfv, SPADE": Example("osfv", lambda: [CanonicalDetector(), OSFVGenerator(spade=True)]),
    "mcnet": Example("mcnet", lambda: [standins.FOMMDetector(), MCNetGenerator()], levels=2),
    "liveportrait": Example("liveportrait", lambda: [MotionExtractor(), WarpingNetwork()]),
}
OTHERS = {
    "fomm": lambda: [standins.FOMMDetector(), standins.FOMMGenerator()],
    "tpsmm": lambda: [standins.TPSDetector(), standins.TPSGenerator()],
}
