"""Relative camera motion and intrinsics of two frames, trained together with the depth network."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .depth import normalize, resnet_encoder
from .geometry import pose_matrix

Intrinsics = Literal["bounded", "released"]


class Pose(NamedTuple):
    """Motion between two frames of one camera.

    Attributes:
        axis_angle: (B, 3), rotation in radians.
        translation: (B, 3), in the unit of depth.
        K: (B, 3, 3), intrinsics in pixels.
    """

    axis_angle: Tensor
    translation: Tensor
    K: Tensor

    def matrix(self) -> Tensor:
        """Rigid motion (B, 4, 4) from the earlier frame's camera coordinates to the later frame's."""
        return pose_matrix(self.axis_angle, self.translation)


class PoseNet(nn.Module):
    """Network for relative pose and intrinsics of a frame pair, with the face as the rigid scene.

    Args:
        encoder: name of any timm ResNet.
        pretrained: download the encoder's ImageNet weights, from which Godard et al. start.
        intrinsics: "bounded": the principal point starts at the image center and stays within a tenth of the side
            around it; the focal length starts at 1.55 times the side and stays within 0.8 and 3 times, as with portrait
            lenses. Both are unobservable under small rotations; unbounded, they absorb depth error.
            "released": the heads of the authors' released weights, for loading them: a principal point always right of
            and below the center, any focal length, and a second motion that is not used.

    Reference:
        Hong et al. 2022, section 3.2, eq. 2; Godard et al. 2019 for the architecture.
    """

    def __init__(
        self,
        encoder: str = "resnet18.tv_in1k",
        *,
        pretrained: bool = False,
        intrinsics: Intrinsics = "bounded",
    ) -> None:
        super().__init__()
        if intrinsics not in ("bounded", "released"):
            raise ValueError(f"intrinsics: expected 'bounded' or 'released', got {intrinsics!r}")
        self.intrinsics = intrinsics
        self.encoder, channels = resnet_encoder(encoder, in_channels=6, pretrained=pretrained)
        self.squeeze = nn.Conv2d(channels[-1], 256, 1)
        self.conv1 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 256, 3, padding=1)
        # The released head predicts a second, unused motion; kept so that its weights fit.
        self.motion = nn.Conv2d(256, 6 if intrinsics == "bounded" else 12, 1)
        self.focal = nn.Conv2d(256, 2, 3, padding=1)
        self.centre = nn.Conv2d(256, 2, 3, padding=1)  # the name in stored weights
        if intrinsics == "bounded":
            for parameter in (*self.centre.parameters(), *self.focal.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, earlier: Tensor, later: Tensor) -> Pose:
        """Estimate the motion from one frame to the other.

        Args:
            earlier: (B, 3, H, W) in [0, 1]; H and W multiples of 32.
            later: likewise.
        """
        if earlier.shape != later.shape:
            raise ValueError(f"later: expected the shape of earlier {tuple(earlier.shape)}, got {tuple(later.shape)}")
        feature = self._features(earlier, later)
        with torch.autocast(feature.device.type, enabled=False):  # autocast would round coordinates
            feature = feature.to(self.motion.weight.dtype)
            motion = self._motion(feature)[:, 0]
            return Pose(motion[:, :3], motion[:, 3:], self._intrinsics(feature, *earlier.shape[-2:]))

    def _features(self, earlier: Tensor, later: Tensor) -> Tensor:
        x = self.encoder(normalize(torch.cat((earlier, later), dim=1)))[-1]
        x = F.relu(self.squeeze(x))
        return F.relu(self.conv2(F.relu(self.conv1(x))))

    def _motion(self, feature: Tensor) -> Tensor:
        """(B, pairs, 6); 0.01 makes an untrained network start near the identity."""
        return 0.01 * self.motion(feature).mean((2, 3)).unflatten(1, (-1, 6))

    def _intrinsics(self, feature: Tensor, height: int, width: int) -> Tensor:
        size = feature.new_tensor([width, height])
        focal, center = self.focal(feature), self.centre(feature)
        if self.intrinsics == "bounded":
            focal = 0.8 * (3.0 / 0.8) ** torch.sigmoid(focal.mean((2, 3))) * size
            # Pixel centers are integers, so the center of the image is (W - 1) / 2.
            center = (0.4 + 0.2 * torch.sigmoid(center.mean((2, 3)))) * (size - 1)
        else:
            focal = F.softplus(focal).mean((2, 3)) * size
            center = (F.softplus(center).mean((2, 3)) + 0.5) * size
        top = torch.cat((torch.diag_embed(focal), center[..., None]), dim=-1)
        return torch.cat((top, top.new_tensor([0.0, 0.0, 1.0]).expand(top.shape[0], 1, 3)), dim=1)
