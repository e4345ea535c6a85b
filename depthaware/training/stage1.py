"""Stage 1: networks, cameras, loss and diagnostics of depth learned from neighboring frames.

Reference: Hong et al. 2022, section 3.2, eq. 1 to 5; Godard et al. 2019.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..alignment import align_frames
from ..depth import SelfSupDepthNet
from ..geometry import disparity_to_depth, invert_pose
from ..losses import photometric_error, reproject
from ..media.atomic import whole_file
from ..pose import Pose, PoseNet
from ..pretrained.hub import CARD, CONFIG, WEIGHTS, fill, load_weights
from ..pretrained.locate import bundled

# Name of the timm encoder and widths of the decoder, finest first: those of dagan-tiny; the ResNet-18 of Hong et al.
# 2022, section A.2, with the widths of Godard et al. 2019, whose architecture it takes (section 4.2).
NETWORKS = {"tiny": ("test_resnet", (8, 16, 24, 32, 64)), "paper": ("resnet18.tv_in1k", (16, 32, 64, 128, 256))}


POSE = "pose.safetensors"


class DepthStep(nn.Module):
    """Depth network and, if the pose is learned, pose network: one forward pass for DistributedDataParallel.

    Args:
        network: key of `NETWORKS`.
        pretrained: start the encoders from timm's weights, which are downloaded.
        learn_pose: with a `PoseNet`; without, poses come from `align_cameras`.
        num_scales: of the disparity pyramid, 1 to 4.
        **facts: `image_size` and `depth_range`, kept with the weights by `SelfSupDepthNet`.
    """

    def __init__(
        self,
        network: str = "tiny",
        *,
        pretrained: bool = False,
        learn_pose: bool = False,
        num_scales: int = 1,
        **facts: Any,
    ) -> None:
        super().__init__()
        self.num_scales = num_scales
        encoder, widths = NETWORKS[network]
        self.depth_net = SelfSupDepthNet(encoder, pretrained=pretrained, decoder_channels=widths, **facts)
        self.pose_net = PoseNet(encoder, pretrained=pretrained) if learn_pose else None
        for head in self.depth_net.heads:  # nearly flat: a steep start is left only through a saturated sigmoid
            weight, bias = head.parameters()
            nn.init.zeros_(bias)
            weight.data *= 0.1
        # DistributedDataParallel would wait for the gradients of heads that are not used.
        self.depth_net.heads[num_scales:].requires_grad_(False)

    def forward(self, target: Tensor, pairs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], Pose | None]:
        """Disparities of the target, and the motion between two frames.

        Args:
            target: (B, 3, H, W) in [0, 1].
            pairs: first and second frames, (P, 3, H, W) each.

        Returns:
            Disparities (B, 1, H / 2**i, W / 2**i), finest first, and the pose from the first frame of each pair to
            the second, None if it is not learned.
        """
        pose = None if self.pose_net is None else self.pose_net(*pairs)
        return self.depth_net(target, num_scales=self.num_scales), pose

    def files(self) -> list[str]:
        """Names of the files that `save` writes."""
        return [WEIGHTS, CARD, CONFIG] + ([] if self.pose_net is None else [POSE])

    def save(self, folder: Path, *, card: str | None = None) -> None:
        """Write the depth network for `SelfSupDepthNet.from_pretrained`, and beside it the pose network, if any.

        Args:
            folder: created if absent.
            card: see `SelfSupDepthNet.save_pretrained`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.pose_net is not None:
            with whole_file(folder / POSE) as path:
                tensors = {key: value.cpu().contiguous() for key, value in self.pose_net.state_dict().items()}
                path.write_bytes(save(tensors))
        self.depth_net.save_pretrained(folder, card=card)

    def load(self, folder: Path, flag: str = "") -> None:
        """Load the files that `save` wrote.

        Args:
            folder: that they are in.
            flag: that named it, for the error message.

        Raises:
            ValueError: if a file is missing, or does not fit.
        """
        load_depth_net(self.depth_net, folder, flag)
        if self.pose_net is not None:
            if not (folder / POSE).is_file():
                raise ValueError(f"{flag}{folder}: expected a folder of --pose network, found no {POSE}")
            load_weights(self.pose_net, folder, POSE)


def check_depth(name: str | Path, flag: str = "") -> None:
    """Check, without reading them, that there are weights for `load_depth_net`.

    Args:
        name: of the weights.
        flag: that named them, for the error message.

    Raises:
        ValueError: if there are none on this machine.
    """
    if str(name) not in bundled() and not (Path(name) / CONFIG).is_file():
        raise ValueError(f"{flag}{name}: expected a folder of train_depth.py or of DaGAN weights, found no {CONFIG}")


def load_depth_net(network: SelfSupDepthNet, name: str | Path, flag: str = "") -> list[float]:
    """Load the weights of stage 1, or those within a `DaGAN`, into a depth network.

    Args:
        network: with the encoder and widths of the weights.
        name: a folder or a bundled name.
        flag: that named them, for the error message.

    Returns:
        The nearest and farthest depth that they were trained for.

    Raises:
        ValueError: if there are none, or they do not fit.
    """
    check_depth(name, flag)
    start = SelfSupDepthNet.from_pretrained(name)
    for option in ("encoder", "decoder_channels"):
        expected, found = network.config[option], start.config[option]
        if _family(expected) != _family(found):
            raise ValueError(f"{flag}{name}: has {option} {found}, expected that of the --preset, {expected}")
    fill(network, start.state_dict(), str(name))
    return start.depth_range


def _family(option: Any) -> Any:
    """An encoder's name without the weights that it started from, which change nothing in its structure."""
    return option.partition(".")[0] if isinstance(option, str) else option


class Cameras(NamedTuple):
    """Geometry of the neighbors, the earlier one first.

    Attributes:
        poses: (B, 4, 4) each, from the target's camera to the neighbor's.
        K: intrinsics (B, 3, 3) each, in pixels.
    """

    poses: tuple[Tensor, ...]
    K: tuple[Tensor, ...]


def align_cameras(
    target: Tensor,
    neighbors: Sequence[Tensor],
    disparity: Tensor,
    *,
    focal: float = 1.6,
    min_depth: float = 0.8,
    max_depth: float = 1.25,
) -> Cameras:
    """Poses from the pixels themselves, under the present depth and fixed intrinsics.

    Args:
        target: (B, 3, H, H) in [0, 1].
        neighbors: each like `target`.
        disparity: of the target, (B, 1, H, H) in (0, 1).
        focal: length in sides of the image; the principal point is in its center.
        min_depth: at disparity 1.
        max_depth: at disparity 0.
    """
    side, count = target.shape[-1], len(neighbors)
    length, center = focal * side, (side - 1) / 2
    K = target.new_tensor([[length, 0, center], [0, length, center], [0, 0, 1]]).expand(len(target), 3, 3)
    depth = disparity_to_depth(disparity, min_depth=min_depth, max_depth=max_depth)
    repeated = (target.repeat(count, 1, 1, 1), torch.cat(list(neighbors)), depth.repeat(count, 1, 1, 1))
    T = align_frames(*repeated, K.repeat(count, 1, 1))
    return Cameras(T.chunk(count), (K,) * count)


def split_pose(pose: Pose, count: int = 2) -> Cameras:
    """Cameras from the poses of (earlier, target) and (target, later), of which `count` went through in one batch."""
    before, *after = pose.matrix().chunk(count)
    return Cameras((invert_pose(before), *after), pose.K.chunk(count))  # the first leads to the target, not from it


@torch.no_grad()
def diagnostics(
    target: Tensor, neighbors: Sequence[Tensor], disparity: Tensor, cameras: Cameras, min_depth: float, max_depth: float
) -> dict[str, float]:
    """Signs of the known failures: no motion, diverging intrinsics, frames that teach nothing.

    Args:
        target: (B, 3, H, W) in [0, 1].
        neighbors: each like `target`.
        disparity: of the target, (B, 1, H, W) in (0, 1).
        cameras: of the neighbors.
        min_depth: at disparity 1.
        max_depth: at disparity 0.

    Returns:
        `still`, the photometric error of the better neighbor as it is; `explained`, that of the better of unwarped and
        warped neighbors, per pixel. Unlike the loss it cannot fall by losing pixels to the auto-mask; it should fall
        below `still`. `moving`, the share of pixels that warping improves; `rotation_degrees` and `translation`, means
        of the last neighbor's pose; `focal`, in sides of the image.
    """
    warped = [
        reproject(image, disparity, T, K, min_depth=min_depth, max_depth=max_depth)
        for image, T, K in zip(neighbors, *cameras, strict=True)
    ]
    still, error = (
        torch.stack([photometric_error(image, target) for image in images]).amin(0) for images in (neighbors, warped)
    )
    T = cameras.poses[-1]
    trace = T[:, 0, 0] + T[:, 1, 1] + T[:, 2, 2]
    return {
        "still": still.mean().item(),
        "explained": torch.minimum(error, still).mean().item(),
        "moving": (error < still).float().mean().item(),
        "rotation_degrees": ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg().mean().item(),
        "translation": T[:, :3, 3].norm(dim=-1).mean().item(),
        "focal": (cameras.K[-1][:, 0, 0] / target.shape[-1]).mean().item(),
    }
