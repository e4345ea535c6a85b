"""Key points with local affine motion: detection from RGB-D, heat maps, and transfer between identities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import AntiAliasDownsample, Hourglass, check_size
from .geometry import coordinate_grid, inverse_2x2, matmul_2x2
from .pretrained import hub
from .pretrained.config import records_options

KeypointInput = Literal["rgb", "rgbd", "depth"]
_CHANNELS = {"rgb": 3, "rgbd": 4, "depth": 1}
_PART = hub.Part(
    "RGBDKeypointDetector",
    "kp_detector",
    "key point detector",
    {
        "num_keypoints": "num_keypoints",
        "keypoint_input": "input",
        "detector_block_expansion": "block_expansion",
        "hourglass_max_features": "max_features",
        "num_hourglass_blocks": "num_blocks",
        "scale_factor": "scale_factor",
        "estimate_jacobian": "estimate_jacobian",
    },
)


class Keypoints(NamedTuple):
    """Key points of a batch of images.

    Attributes:
        value: (B, N, 2), (x, y) in [-1, 1].
        jacobian: (B, N, 2, 2), local affine frame around each key point, or None.
    """

    value: Tensor
    jacobian: Tensor | None = None


class RGBDKeypointDetector(nn.Module):
    """Detects key points in the image and its disparity (the paper's F_kp on [I, D]).

    Args:
        num_keypoints: N.
        input: input modality, "rgbd" (the paper), "rgb" (FOMM; Table 4's baseline) or "depth" (disparity alone).
        block_expansion: width of the hourglass.
        max_features: most channels of any hourglass level.
        num_blocks: halvings in the hourglass.
        scale_factor: the image is down-sampled to this first; sides must be multiples of
            2 ** num_blocks / scale_factor.
        temperature: of the softmax over positions.
        estimate_jacobian: also regress the (2, 2) frames, as FOMM does; the paper's eq. 7 needs none.
        padding: of the two 7 x 7 heads; 0, as in the released code, keeps key points away from the border.

    Reference:
        Hong et al. 2022, section 3.3, eq. 6, figure 11b; Siarohin et al. 2019, eq. 5.
    """

    config: dict[str, Any]
    card: str | None = None

    @records_options
    def __init__(
        self,
        num_keypoints: int = 15,
        *,
        input: KeypointInput = "rgbd",
        block_expansion: int = 32,
        max_features: int = 1024,
        num_blocks: int = 5,
        scale_factor: float = 0.25,
        temperature: float = 0.1,
        estimate_jacobian: bool = True,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.input = input
        self.temperature = temperature
        self.down = AntiAliasDownsample(_CHANNELS[input], scale_factor)
        self.hourglass = Hourglass(
            _CHANNELS[input], block_expansion=block_expansion, max_features=max_features, num_blocks=num_blocks
        )
        self.smallest_side = (8 - 2 * padding) * self.down.step  # leaves a heat map of 2 x 2
        self.kp = nn.Conv2d(self.hourglass.out_channels, num_keypoints, 7, padding=padding)
        self.jacobian = None
        if estimate_jacobian:
            self.jacobian = nn.Conv2d(self.hourglass.out_channels, 4 * num_keypoints, 7, padding=padding)
            nn.init.zeros_(self.jacobian.weight)  # every frame starts as the identity
            self.jacobian.bias = nn.Parameter(torch.eye(2).flatten().repeat(num_keypoints))

    def forward(self, image: Tensor, disparity: Tensor | None = None) -> Keypoints:
        """Detect the key points of each image.

        Args:
            image: (B, 3, H, W) in [0, 1].
            disparity: (B, 1, H, W) in (0, 1); needed unless `input` is "rgb".

        Raises:
            ValueError: if the disparity is missing or of another size, or the sides cannot be halved often enough.
        """
        feature = self.hourglass(self.down(self._gather(image, disparity)))
        with torch.autocast(feature.device.type, enabled=False):  # autocast would round the coordinates
            return self._locate(feature.to(self.kp.weight.dtype))

    def _locate(self, feature: Tensor) -> Keypoints:
        heatmap = self._heatmap(self.kp(feature))
        grid = coordinate_grid(*heatmap.shape[-2:], dtype=heatmap.dtype, device=heatmap.device)
        value = torch.einsum("bnhw,hwc->bnc", heatmap, grid)
        if self.jacobian is None:
            return Keypoints(value)
        maps = self.jacobian(feature).unflatten(1, (-1, 4))
        return Keypoints(value, torch.einsum("bnhw,bnchw->bnc", heatmap, maps).unflatten(-1, (2, 2)))

    def _gather(self, image: Tensor, disparity: Tensor | None) -> Tensor:
        check_size(image, 2 ** len(self.hourglass.down_blocks) * self.down.step, "image")
        height, width = image.shape[-2:]
        if min(height, width) < self.smallest_side:
            raise ValueError(f"image: expected sides of at least {self.smallest_side}, got {height} x {width}")
        if self.input == "rgb":
            return image
        if disparity is None or disparity.shape[-2:] != image.shape[-2:]:
            found = "none" if disparity is None else f"{tuple(disparity.shape)}"
            raise ValueError(f"disparity: expected the size of the image {tuple(image.shape)}, got {found}")
        return disparity if self.input == "depth" else torch.cat((image, disparity), dim=1)

    def _heatmap(self, logits: Tensor) -> Tensor:
        return (logits.flatten(2) / self.temperature).softmax(dim=-1).view_as(logits)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "RGBDKeypointDetector":
        """Load weights, strictly, in eval mode: of `save_pretrained`, or the detector of a `DaGAN`.

        Args:
            name: a bundled name ("dagan-tiny"), a folder, or a Hub id ("user/model").
            revision: branch, tag or commit of the Hub repository.

        Raises:
            ValueError: if nothing is found under that name, it has no detector, or config and weights do not fit.
            OSError: if the Hub cannot be reached.
        """
        return hub.load(cls, name, revision, _PART)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors and README.md, as `DaGAN.save_pretrained` does."""
        hub.save(self, Path(folder), hub.named_config(self, _PART), card or self.card, dtype)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, private: bool = False) -> str:
        """Upload the files of `save_pretrained` to a Hub repository, made if absent; return the commit's URL."""
        return hub.push(self, repo_id, hub.named_config(self, _PART), card or self.card, private)


def gaussian_heatmap(value: Tensor, size: Sequence[int], *, variance: float = 0.01) -> Tensor:
    """Un-normalized Gaussian bump of each key point.

    Args:
        value: (B, N, 2) in [-1, 1].
        size: (h, w) of the maps.
        variance: of the Gaussian, in squared normalized units.

    Returns:
        (B, N, h, w) in (0, 1], 1 at the key point.
    """
    grid = coordinate_grid(*size, dtype=value.dtype, device=value.device)
    return torch.exp(-(grid - value[:, :, None, None]).square().sum(-1) / (2 * variance))


def transfer_motion(
    kp_source: Keypoints,
    kp_driving: Keypoints,
    kp_initial: Keypoints,
    *,
    mode: Literal["relative", "absolute"] = "relative",
    adaptive_scale: bool | Tensor = True,
) -> Keypoints:
    """Transfer the motion of a driving video to the source's key points.

    Relative: value = kp_source + a (kp_driving - kp_initial), jacobian = J_driving J_initial⁻¹ J_source; absolute: the
    driving key points as they are.

    Args:
        kp_source: key points of the source, batch 1 or B.
        kp_driving: key points of B driving frames.
        kp_initial: key points of the driving frame whose pose matches the source's, batch 1 or B.
        mode: "relative" keeps the source's own face shape, "absolute" takes that of the driving video.
        adaptive_scale: True takes a from `face_scale`, False a = 1; a tensor is a itself, for use with many frames.

    Reference:
        Siarohin et al. 2019, eq. 11.
    """
    if mode == "absolute":
        return kp_driving
    if mode != "relative":
        raise ValueError(f"mode: expected 'relative' or 'absolute', got {mode!r}")
    if adaptive_scale is True:
        adaptive_scale = face_scale(kp_source, kp_initial)
    scale = adaptive_scale if isinstance(adaptive_scale, Tensor) else 1.0
    value = kp_source.value + scale * (kp_driving.value - kp_initial.value)
    if kp_source.jacobian is None or kp_driving.jacobian is None or kp_initial.jacobian is None:
        return Keypoints(value)
    motion = matmul_2x2(kp_driving.jacobian, inverse_2x2(kp_initial.jacobian))
    return Keypoints(value, matmul_2x2(motion, kp_source.jacobian))


def face_scale(kp_source: Keypoints, kp_initial: Keypoints) -> Tensor:
    """Ratio of face sizes, sqrt(hull area of kp_source / hull area of kp_initial): (B, 1, 1)."""
    # The floor only matters for collapsed or fewer than three points, whose hull has no area.
    areas = [hull_area(kp.value).clamp_min(1e-8) for kp in (kp_source, kp_initial)]
    return (areas[0] / areas[1]).sqrt()[:, None, None]


def hull_area(points: Tensor) -> Tensor:
    """Area of the convex hull of each set of points: (B, N, 2) -> (B,)."""
    areas = [_hull_area(sorted(map(tuple, cloud))) for cloud in points.tolist()]
    return points.new_tensor(areas)


def _hull_area(points: list[tuple[float, float]]) -> float:
    """Andrew's monotone chain over points sorted by (x, y), then the shoelace formula."""

    def chain(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for x, y in points:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                hull.pop()
            hull.append((x, y))
        return hull[:-1]

    hull = chain(points) + chain(points[::-1])
    return sum(ax * by - ay * bx for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True)) / 2
