"""Parameters to train and learning-rate schedule."""

import math

from torch import nn


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that get gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def warmup_cosine(rate: float, images: int, total: int, *, warmup: int, final: float = 0.05) -> float:
    """Learning rate after a linear rise, in which Adam estimates the scale of the gradients, and along a cosine.

    Args:
        rate: the highest one.
        images: seen so far, up to `total`.
        total: length of the run.
        warmup: images of the rise.
        final: share of `rate` at the end; 1 leaves it constant after the rise.
    """
    cosine = final + (1 - final) * (1 + math.cos(math.pi * (images / total))) / 2
    return rate * cosine * min(1.0, images / warmup)
