"""The path that the benchmark compares with: our own, doing the work of the published inference loop."""

import copy
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthaware import DaGAN, attention


class FullBlur(nn.Module):
    """The anti-aliased down-sampling as published: blur every pixel, then keep one in `step` ** 2."""

    def __init__(self, down: Any) -> None:
        super().__init__()
        self.step, self.weight = down.step, down.weight

    def forward(self, x: Tensor) -> Tensor:
        blurred = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2, groups=x.shape[1])
        return blurred[..., :: self.step, :: self.step]


def explicit_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.mT).softmax(dim=-1) @ value


class Reference:
    """Frame by frame in float32: the source encoded anew, all N x N attention weights, all scales of the disparity."""

    def __init__(self, model: DaGAN, source_image: Tensor) -> None:
        self.model, self.source_image = copy.deepcopy(model), source_image
        self.model.kp_detector.down = FullBlur(model.kp_detector.down)  # type: ignore[assignment]
        self.model.dense_motion.down = FullBlur(model.dense_motion.down)  # type: ignore[assignment]
        self.kp_source, self.disparity = self.detect(source_image)

    def detect(self, image: Tensor) -> tuple[Any, Tensor]:
        assert self.model.depth_net is not None
        disparity = self.model.depth_net(image)[0]
        return self.model.kp_detector(image, disparity), disparity

    def __call__(self, driving: Tensor) -> Tensor:
        with mock.patch.object(attention, "attend", explicit_attention):
            return torch.cat([self.frame(image) for image in driving.split(1)])

    def frame(self, driving_image: Tensor) -> Tensor:
        kp_driving, _ = self.detect(driving_image)
        motion = self.model.dense_motion(self.source_image, self.kp_source, kp_driving)
        return self.model.generator(self.source_image, self.disparity, motion).prediction
