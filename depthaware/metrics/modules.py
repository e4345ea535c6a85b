"""The functions as `torchmetrics.Metric`: streaming means over all batches and processes, for any training loop.

Imported on first use of one of its names, since it needs the extra "eval".
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._optional import require
from . import depth, face, image

_Metric: Any = require("torchmetrics", "eval").Metric


class FunctionMetric(_Metric):
    """Mean over all samples of a function of this package, as a `torchmetrics.Metric`.

    `update` adds a batch, `compute` returns the mean, `reset` forgets all; between them lies only the sum, so that
    batches of any size give one result, and processes are reduced by a sum. NaN (no detection) is left out and counted
    in `skipped`, as in [`Average`][depthaware.metrics.Average]; without any value the mean is NaN.

    Args:
        options: keyword arguments of the function, such as ``form="euclidean"``, and of `torchmetrics.Metric`, such as
            ``sync_on_compute``.
    """

    function: ClassVar[Callable[..., Tensor]]
    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor
    skipped: Tensor

    def __init__(self, **options: Any) -> None:
        known = {name: options.pop(name) for name in list(options) if name not in _TORCHMETRICS}
        super().__init__(**options)
        self.options = known
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: as the function expects it.
            target: likewise.

        Raises:
            ValueError: as the function does.
        """
        values = type(self).function(prediction, target, **self.options).detach()
        kept = values[~values.isnan()].to(self.total.dtype)
        self.total = self.total + kept.sum()
        self.count = self.count + kept.numel()
        self.skipped = self.skipped + (values.numel() - kept.numel())

    def compute(self) -> Tensor:
        """Compute the mean of all samples with a value; NaN if there is none."""
        return self.total / self.count
