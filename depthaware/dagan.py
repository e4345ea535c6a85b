"""DaGAN: the parts of the paper as one model, with loading and saving."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attention import AttentionForm
from .depth import SelfSupDepthNet
from .generator import AttentionKind, DecoderKind, DepthAwareGenerator, SourceFeatures
from .keypoints import KeypointInput, Keypoints, RGBDKeypointDetector
from .motion import DenseMotion, DenseMotionNetwork
from .pretrained import checkpoint, hub
from .pretrained.config import records_options


class SourceEncoding(NamedTuple):
    """Features and key points of a source image, computed once per source.

    Attributes:
        image: (B, 3, H, W).
        small: (B, 3, h, w), the image at the motion network's resolution.
        disparity: (B, 1, H, W), or None for a model without depth.
        keypoints: of the source.
        features: of the source, from the generator's encoders.
    """

    image: Tensor
    small: Tensor
    disparity: Tensor | None
    keypoints: Keypoints
    features: SourceFeatures


class DaGANOutput(NamedTuple):
    """A generated frame with the intermediate results that it was made from.

    Attributes:
        prediction: (B, 3, H, W) in [0, 1].
        deformed: (B, 3, H, W), the source under the deformation alone.
        deformation: (B, h, w, 2), backward map.
        occlusion_map: (B, 1, h, w), 1 = keep the warped source.
        mask: (B, N+1, h, w), weight of each sparse motion at each position.
        kp_source: key points of the source.
        kp_driving: driving key points.
        disparity_source: (B, 1, H, W), or None for a model without depth.
        disparity_driving: likewise; None from `drive_with_details`, which gets no driving image.
    """

    prediction: Tensor
    deformed: Tensor
    deformation: Tensor
    occlusion_map: Tensor
    mask: Tensor
    kp_source: Keypoints
    kp_driving: Keypoints
    disparity_source: Tensor | None
    disparity_driving: Tensor | None


class DaGAN(nn.Module):
    """Depth-aware talking-head model: depth, key points, dense motion, attention, decoder.

    Every argument is JSON-able; together they are the model's `config`. The rows of the paper's Table 4: the baseline
    is ``keypoint_input="rgb", attention="none"``; "w/ FDN" ``attention="none"``; "w/ CAM" ``keypoint_input="rgb"``;
    "Ours (SA)" ``attention="self"``; DaGAN the defaults. FOMM is the baseline with ``num_keypoints=10``.

    Args:
        image_size: side of the square images that the weights were trained on; others are possible, see `scale_factor`.
        num_keypoints: N.
        keypoint_input: "rgbd", "rgb" or "depth".
        estimate_jacobian: give each key point a local affine frame (FOMM); without, motion is eq. 7's offsets alone.
        attention: "cross", "self" or "none".
        attention_form: "released" or "paper" (eq. 9 as printed), see `CrossModalAttention`.
        initial_gate: of the attention when the weights are new, see `CrossModalAttention`.
        decoder: "plain" or "spade".
        blend: compose the decoded frame with the deformed source, see `DepthAwareGenerator`.
        depth_encoder: name of any timm ResNet.
        depth_channels: widths of the depth decoder, full resolution first.
        depth_range: nearest and farthest depth that the depth network was trained with, for point clouds.
        detector_block_expansion: block expansion of the detector's hourglass.
        motion_block_expansion: block expansion of the motion network's hourglass.
        hourglass_max_features: most channels in either hourglass.
        num_hourglass_blocks: halvings in either hourglass.
        generator_block_expansion: channels of the generator at full resolution.
        generator_max_features: most channels of the generator's encoders.
        num_down_blocks: halvings in the generator.
        num_bottleneck_blocks: residual blocks of the plain decoder.
        scale_factor: of the maps of key points and motion; sides are multiples of 2 ** num_hourglass_blocks / it.
        align_corners: sampling convention that the weights were trained with, see `warp`.

    Reference:
        Hong et al. 2022, sections 3.1 and 4.4, figure 2, Table 4.
    """

    config: dict[str, Any]
    card: str | None = None  # a class attribute: pickled models of earlier versions have none of their own

    @records_options
    def __init__(
        self,
        *,
        image_size: int = 256,
        num_keypoints: int = 15,
        keypoint_input: KeypointInput = "rgbd",
        estimate_jacobian: bool = True,
        attention: AttentionKind = "cross",
        attention_form: AttentionForm = "released",
        initial_gate: float = 0.0,
        decoder: DecoderKind = "plain",
        blend: bool = False,
        depth_encoder: str = "resnet18.tv_in1k",
        depth_channels: tuple[int, ...] | list[int] = (16, 32, 64, 128, 256),
        depth_range: tuple[float, float] | list[float] = (0.1, 100.0),
        detector_block_expansion: int = 32,
        motion_block_expansion: int = 64,
        hourglass_max_features: int = 1024,
        num_hourglass_blocks: int = 5,
        generator_block_expansion: int = 64,
        generator_max_features: int = 512,
        num_down_blocks: int = 2,
        num_bottleneck_blocks: int = 6,
        scale_factor: float = 0.25,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        has_depth = keypoint_input != "rgb" or attention == "cross"
        depth: Any = dict(decoder_channels=depth_channels, image_size=image_size, depth_range=depth_range)
        self.depth_net = SelfSupDepthNet(depth_encoder, **depth) if has_depth else None
        size: Any = {"max_features": hourglass_max_features, "num_blocks": num_hourglass_blocks}
        size |= {"scale_factor": scale_factor}
        kp: Any = size | {"input": keypoint_input, "estimate_jacobian": estimate_jacobian}
        self.kp_detector = RGBDKeypointDetector(num_keypoints, block_expansion=detector_block_expansion, **kp)
        self.dense_motion = DenseMotionNetwork(
            num_keypoints, block_expansion=motion_block_expansion, align_corners=align_corners, **size
        )
        self.generator = DepthAwareGenerator(
            attention=attention,
            attention_form=attention_form,
            initial_gate=initial_gate,
            decoder=decoder,
            block_expansion=generator_block_expansion,
            max_features=generator_max_features,
            num_down_blocks=num_down_blocks,
            num_bottleneck_blocks=num_bottleneck_blocks,
            blend=blend,
            align_corners=align_corners,
        )

    @property
    def depth_range(self) -> list[float]:
        """Nearest and farthest depth, from `config`."""
        return self.config["depth_range"]

    def forward(self, source_image: Tensor, driving_image: Tensor) -> DaGANOutput:
        """Generate the source in the pose and expression of the driving image (absolute motion), (B, 3, H, W) each."""
        kp_driving, disparity = self.detect(driving_image)
        out = self.drive_with_details(self.encode_source(source_image), kp_driving)
        return out._replace(disparity_driving=disparity)

    def detect(self, image: Tensor) -> tuple[Keypoints, Tensor | None]:
        """Key points and disparity (None for a model without depth) of images (B, 3, H, W) in [0, 1]."""
        disparity = None if self.depth_net is None else self.depth_net(image, num_scales=1)[0]
        return self.kp_detector(image, disparity), disparity

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """`detect` without the disparity, which is not computed where the detector's input is RGB alone."""
        return self.kp_detector(image) if self.kp_detector.input == "rgb" else self.detect(image)[0]

    def encode_source(self, source_image: Tensor) -> SourceEncoding:
        """Compute all that depends on the source (B, 3, H, W) in [0, 1] alone."""
        keypoints, disparity = self.detect(source_image)
        small, features = self.dense_motion.down(source_image), self.generator.encode(source_image, disparity)
        return SourceEncoding(source_image, small, disparity, keypoints, features)

    def drive(self, source: SourceEncoding, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Generate frames (B, 3, H, W) in [0, 1] of one source (batch 1, or B) under B sets of driving key points.

        `dtype` is that of the generator (automatic mixed precision); motion is always float32.
        """
        if dtype == torch.float32:
            return self.drive_with_details(source, kp_driving).prediction
        motion = self.estimate_motion(source, kp_driving)
        with torch.autocast(source.image.device.type, dtype):
            return self.generator.decode(source.image, source.features, motion).prediction

    def estimate_motion(self, source: SourceEncoding, kp_driving: Keypoints) -> DenseMotion:
        """Estimate the dense motion of `drive`, from the source to B sets of driving key points."""
        small = source.small.expand(kp_driving.value.shape[0], -1, -1, -1)
        return self.dense_motion.forward_downsampled(small, source.keypoints, kp_driving)

    def drive_with_details(self, source: SourceEncoding, kp_driving: Keypoints) -> DaGANOutput:
        """`drive` in float32, with the intermediate results."""
        motion = self.estimate_motion(source, kp_driving)
        frame = self.generator.decode(source.image, source.features, motion)
        assert motion.mask is not None
        dense = (motion.deformation, motion.occlusion_map, motion.mask)
        return DaGANOutput(*frame, *dense, source.keypoints, kp_driving, source.disparity, None)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "DaGAN":
        """Load weights, strictly, in eval mode; their model card (Markdown) is in `card`.

        Args:
            name: a bundled name ("dagan-tiny"), a folder, or a Hub id ("user/model").
            revision: branch, tag or commit of the Hub repository; a commit pins the weights.

        Raises:
            ValueError: if nothing is found under that name, or config and weights do not fit this class or each other.
            OSError: if the Hub cannot be reached.
        """
        return hub.load(cls, name, revision)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, depth_dir: str | Path | None = None, *, align_corners: bool | None = None
    ) -> "DaGAN":
        """Load a DaGAN (plain or SPADE) or FOMM ``.pth.tar``, strictly, in eval mode; `save_pretrained` converts it.

        Args:
            path: the checkpoint.
            depth_dir: folder with ``encoder.pth`` and ``depth.pth``; for DaGAN alone, whose depth is stored apart.
            align_corners: the sampling that the weights were trained with; if None, False for DaGAN and True for FOMM.

        Raises:
            ValueError: if a file cannot be read safely, or keys or shapes are not those of such a checkpoint.
        """
        config, tensors = checkpoint.read_model(path, depth_dir, align_corners=align_corners)
        model = cls(**config)
        hub.fill(model, tensors, str(path))
        model.card = hub.converted_card(Path(path).name, model.config)
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors and README.md, the model card.

        Args:
            folder: created if absent.
            card: Markdown with license and training facts; the card that came with the weights, or a bare one, if None.
            dtype: of the floating-point weights on disk; float16 halves the file.
        """
        hub.save(self, Path(folder), self.config, card or self.card, dtype)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, private: bool = False) -> str:
        """Upload the files of `save_pretrained` to a Hub repository, created if absent; return the commit's URL."""
        return hub.push(self, repo_id, self.config, card or self.card, private)
