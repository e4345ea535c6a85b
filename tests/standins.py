"""Small networks built like FOMM and the Thin-Plate-Spline Motion Model: their calls, dictionaries and part names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthaware import DenseMotionNetwork, Keypoints
from depthaware.blocks import AntiAliasDownsample, DownBlock, Hourglass, ResBlock, SameBlock, UpBlock
from depthaware.geometry import coordinate_grid

KP = dict[str, Tensor]


class FOMMDetector(nn.Module):
    def __init__(self, *, channels: int = 3, jacobian: bool = True, scale: float = 0.25) -> None:
        super().__init__()
        self.predictor = Hourglass(channels, block_expansion=4, max_features=8, num_blocks=2)
        self.kp = nn.Conv2d(self.predictor.out_channels, 5, 7)
        self.jacobian = nn.Conv2d(self.predictor.out_channels, 20, 7) if jacobian else None
        if scale != 1:
            self.down = AntiAliasDownsample(channels, scale)

    def forward(self, x: Tensor) -> KP:
        feature = self.predictor(self.down(x) if hasattr(self, "down") else x)
        heatmap = self.kp(feature).flatten(2).softmax(-1)
        side = feature.shape[-1] - 6
        grid = coordinate_grid(side, side, dtype=x.dtype).flatten(0, 1)
        kp = {"value": heatmap @ grid}
        if self.jacobian is not None:
            frames = (heatmap[:, :, None] * self.jacobian(feature).unflatten(1, (5, 4)).flatten(3)).sum(-1)
            kp["jacobian"] = frames.unflatten(-1, (2, 2)) + torch.eye(2, dtype=x.dtype)
        return kp


class FOMMGenerator(nn.Module):
    num_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork(5, block_expansion=4, max_features=8, num_blocks=2)
        self.first = SameBlock(3, 4, kernel_size=7)
        self.down_blocks = nn.ModuleList([DownBlock(4, 8), DownBlock(8, 16)])
        self.bottleneck = nn.Sequential()
        for i in range(2):
            self.bottleneck.add_module(f"r{i}", ResBlock(16))
        self.up_blocks = nn.ModuleList([UpBlock(16, 8), UpBlock(8, 4)])
        self.final = nn.Conv2d(4, 3, 7, padding=3)

    def forward(self, source_image: Tensor, kp_driving: KP, kp_source: KP) -> dict[str, Tensor]:
        out = self.first(source_image)
        for block in self.down_blocks:
            out = block(out)
        motion = self.dense_motion_network(source_image, Keypoints(**kp_source), Keypoints(**kp_driving))
        out = F.grid_sample(out, motion.deformation, align_corners=False) * motion.occlusion_map
        out = self.bottleneck(out)
        for block in self.up_blocks:
            out = block(out)
        return {"occlusion_map": motion.occlusion_map, "prediction": self.final(out).sigmoid()}


class TPSDetector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fg_encoder = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        )
        self.fc = nn.Linear(128, 20)

    def forward(self, image: Tensor) -> KP:
        return {"fg_kp": self.fc(self.fg_encoder(image).flatten(1)).tanh().unflatten(-1, (10, 2))}


class TPSMotion(nn.Module):
    """Takes what is common to all key points for the motion; one occlusion map for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.occlusion = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, source_image: Tensor, kp_driving: KP, kp_source: KP) -> dict[str, Tensor | list[Tensor]]:
        shift = (kp_source["fg_kp"] - kp_driving["fg_kp"]).mean(1)[:, None, None]
        sides = [source_image.shape[-1] // 2**i for i in (3, 2, 1, 0)]
        maps = [self.occlusion(F.interpolate(source_image, size=(side, side))).sigmoid() for side in sides]
        return {"deformation": coordinate_grid(8, 8, dtype=shift.dtype) + shift, "occlusion_map": maps}


class TPSGenerator(nn.Module):
    num_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.first = SameBlock(3, 4, kernel_size=7)
        self.down_blocks = nn.ModuleList([DownBlock(4, 8), DownBlock(8, 16), DownBlock(16, 32)])
        self.resblock = nn.ModuleList(ResBlock(width) for width in (32, 32, 32, 32, 16, 16))
        self.up_blocks = nn.ModuleList([UpBlock(32, 16), UpBlock(32, 8), UpBlock(16, 4)])
        self.final = nn.Conv2d(8, 3, 7, padding=3)

    def forward(self, source_image: Tensor, dense_motion: dict) -> dict[str, Tensor]:
        features = [self.first(source_image)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        out = features[0][:, :0]
        for level, (feature, occlusion_map) in enumerate(
            zip(features[::-1], dense_motion["occlusion_map"], strict=True)
        ):
            size = feature.shape[-2:]
            grid = F.interpolate(dense_motion["deformation"].permute(0, 3, 1, 2), size=size, mode="bilinear")
            warped = F.grid_sample(feature, grid.permute(0, 2, 3, 1), align_corners=True) * occlusion_map
            out = torch.cat((out, warped), dim=1) if level else warped
            if level < 3:
                out = self.up_blocks[level](self.resblock[2 * level + 1](self.resblock[2 * level](out)))
        return {"prediction": self.final(out).sigmoid()}

    def get_encode(self, image: Tensor) -> Tensor:
        """Its training script calls this beside forward."""
        return self.first(image)
