"""Stage 1: networks, cameras, loss and diagnostics of depth learned from neighboring frames.

Reference: Hong et al. 2022, section 3.1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..alignment import align_frames
from ..depth import SelfSupDepthNet
from ..geometry import disparity_to_depth, invert_pose
from ..losses import photometric_error, reproject
from ..media.atomic import whole_file
from ..pose import Pose, PoseNet
from ..pretrained.hub import load_tensors

# Name of the timm encoder and widths of the decoder, finest first; those of dagan-tiny, and the paper's.
NETWORKS = {"tiny": ("test_resnet", (8, 16, 24, 32, 64)), "paper": ("resnet18.tv_in1k", (16, 32, 64, 128, 256))}


class DepthStep(nn.Module):
    """Depth network and, if the pose is learned, pose network: one forward pass for DistributedDataParallel.

    Args:
        network: key of `NETWORKS`.
        pretrained: start the encoders from timm's weights, which are downloaded.
        learn_pose: with a `PoseNet`; without, poses come from `align_cameras`.
        num_scales: of the disparity pyramid, 1 to 4.
    """

    def __init__(
        self, network: str = "tiny", *, pretrained: bool = False, learn_pose: bool = False, num_scales: int = 1
    ) -> None:
        super().__init__()
        self.num_scales = num_scales
        encoder, widths = NETWORKS[network]
        self.depth_net = SelfSupDepthNet(encoder, pretrained=pretrained, decoder_channels=widths)
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

    def networks(self) -> dict[str, nn.Module]:
        """The networks by the names of their files: "depth" and, if the pose is learned, "pose"."""
        return {"depth": self.depth_net} | ({} if self.pose_net is None else {"pose": self.pose_net})

    def save(self, folder: Path) -> list[str]:
        """Write a safetensors file for each network, and return the names of the files."""
        names = []
        for name, network in self.networks().items():
            names.append(f"{name}.safetensors")
            with whole_file(folder / names[-1]) as path:
                path.write_bytes(save({key: value.cpu().contiguous() for key, value in network.state_dict().items()}))
        return names

    def load(self, folder: Path) -> None:
        """Load the files that `save` wrote.

        Raises:
            ValueError: if a file is missing, or does not fit.
        """
        for name, network in self.networks().items():
            load_network(network, folder / f"{name}.safetensors")


def load_network(network: nn.Module, path: Path, flag: str = "") -> None:
    """Load one file of a folder of stage 1.

    Args:
        network: to load it into.
        path: of the file.
        flag: that named the folder, for the error message.

    Raises:
        ValueError: if the file is missing, or does not fit.
    """
    if not path.is_file():
        raise ValueError(f"{flag}{path.parent}: expected a folder of train_depth.py, found no {path.name}")
    load_tensors(network, path)


class Cameras(NamedTuple):
    """Geometry of the earlier and the later neighbor.

    Attributes:
        poses: (B, 4, 4) each, from the target's camera to the neighbor's.
        K: intrinsics (B, 3, 3) each, in pixels.
    """

    poses: tuple[Tensor, Tensor]
    K: tuple[Tensor, Tensor]


def align_cameras(
    earlier: Tensor,
    target: Tensor,
    later: Tensor,
    disparity: Tensor,
    *,
    focal: float = 1.6,
    min_depth: float = 0.8,
    max_depth: float = 1.25,
) -> Cameras:
    """Poses from the pixels themselves, under the present depth and fixed intrinsics.

    Args:
        earlier: (B, 3, H, H) in [0, 1].
        target: like `earlier`.
        later: like `earlier`.
        disparity: of the target, (B, 1, H, H) in (0, 1).
        focal: length in sides of the image; the principal point is in its center.
        min_depth: at disparity 1.
        max_depth: at disparity 0.
    """
    side, count = target.shape[-1], len(target)
    length, center = focal * side, (side - 1) / 2
    K = target.new_tensor([[length, 0, center], [0, length, center], [0, 0, 1]]).expand(count, 3, 3)
    depth = disparity_to_depth(disparity, min_depth=min_depth, max_depth=max_depth)
    both = torch.cat((earlier, later))
    T = align_frames(target.repeat(2, 1, 1, 1), both, depth.repeat(2, 1, 1, 1), K.repeat(2, 1, 1))
    return Cameras((T[:count], T[count:]), (K, K))


def split_pose(pose: Pose) -> Cameras:
    """Cameras from the poses of the pairs (earlier, target) and (target, later), which went through in one batch."""
    before, after = pose.matrix().chunk(2)
    K = pose.K.chunk(2)
    return Cameras((invert_pose(before), after), (K[0], K[1]))  # the first leads to the target, not from it


@torch.no_grad()
def diagnostics(
    target: Tensor, neighbors: Sequence[Tensor], disparity: Tensor, cameras: Cameras, min_depth: float, max_depth: float
) -> dict[str, float]:
    """Signs of the known failures: no motion, diverging intrinsics, frames that teach nothing.

    Args:
        target: (B, 3, H, W) in [0, 1].
        neighbors: earlier and later, like `target`.
        disparity: of the target, (B, 1, H, W) in (0, 1).
        cameras: of the neighbors.
        min_depth: at disparity 1.
        max_depth: at disparity 0.

    Returns:
        `still`, the photometric error of the better neighbor as it is; `explained`, that of the better of unwarped and
        warped neighbors, per pixel. Unlike the loss it cannot fall by losing pixels to the auto-mask; it should fall
        below `still`. `moving`, the share of pixels that warping improves; `rotation_degrees` and `translation`, means
        of the later pose; `focal`, in sides of the image.
    """
    warped = [
        reproject(image, disparity, T, K, min_depth=min_depth, max_depth=max_depth)
        for image, T, K in zip(neighbors, *cameras, strict=True)
    ]
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
