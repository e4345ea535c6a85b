"""Exponential moving average of weights."""

import copy

import torch
from torch import nn


class EMA(nn.Module):
    """An exponential moving average of the weights of a network.

    Args:
        network: copied as it is now.
        decay: per step, in [0, 1).

    Attributes:
        network: the averaged copy, in eval mode and without gradients; used for validation and saved at the end.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = copy.deepcopy(network).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Move towards the parameters and batch-norm statistics of a network.

        Args:
            network: the one that is trained.
            steps: taken so far, from 1 on. The decay is min(`decay`, steps / (steps + 10)): the initial weights are
                forgotten quickly.
        """
        decay = min(self.decay, steps / (steps + 10))
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
