"""Features of the expression from landmarks: opening of the mouth, its width, opening of the eyes."""

import torch
from torch import Tensor

from ..metrics import eye_opening, mouth_opening, mouth_width
from .protocols import LandmarkDetector


class LandmarkExpression:
    """An [`ExpressionEstimator`][depthaware.extractors.ExpressionEstimator] based on any landmark detector.

    Args:
        landmarks: detector of the landmarks.
    """

    def __init__(self, landmarks: LandmarkDetector) -> None:
        self.landmarks = landmarks
        self.name = f"distances of landmarks of {landmarks.name}"

    def __call__(self, images: Tensor) -> Tensor:
        landmarks = self.landmarks(images)
        return torch.stack([feature(landmarks) for feature in (mouth_opening, mouth_width, eye_opening)], dim=1)
