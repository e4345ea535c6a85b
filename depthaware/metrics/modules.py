"""The functions as `torchmetrics.Metric`: streaming means over all batches and processes, for any training loop.

Imported on first use of one of its names, since it needs the extra "eval".
"""

from collections.abc import Callable
from inspect import signature
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
    Sums are in double precision, which some devices (mps) lack: keep the metric on the CPU there.

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
        known = signature(type(self).function).parameters
        super().__init__(**{name: value for name, value in options.items() if name not in known})
        self.options = {name: value for name, value in options.items() if name in known}
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, *args: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: as the function expects it.
            target: likewise.
            args: further tensors of the function, such as the mask of a depth metric.

        Raises:
            ValueError: as the function does.
        """
        values = type(self).function(prediction, target, *args, **self.options).detach()
        kept = values[~values.isnan()].to(self.total.dtype)
        self.total = self.total + kept.sum()
        self.count = self.count + kept.numel()
        self.skipped = self.skipped + (values.numel() - kept.numel())

    def compute(self) -> Tensor:
        """Compute the mean of all samples with a value; NaN if there is none."""
        return self.total / self.count


class L1Metric(FunctionMetric):
    """Mean [`l1`][depthaware.metrics.l1] of images."""

    function = staticmethod(image.l1)
    higher_is_better = False


class PSNRMetric(FunctionMetric):
    """Mean [`psnr`][depthaware.metrics.psnr] of images: the mean of decibels, not the decibels of the mean error."""

    function = staticmethod(image.psnr)
    higher_is_better = True


class SSIMMetric(FunctionMetric):
    """Mean [`ssim`][depthaware.metrics.ssim] of images."""

    function = staticmethod(image.ssim)
    higher_is_better = True


class MSSSIMMetric(FunctionMetric):
    """Mean [`ms_ssim`][depthaware.metrics.ms_ssim] of images."""

    function = staticmethod(image.ms_ssim)
    higher_is_better = True


class AKDMetric(FunctionMetric):
    """Mean [`akd`][depthaware.metrics.akd] of landmarks."""

    function = staticmethod(face.akd)
    higher_is_better = False


class AEDMetric(FunctionMetric):
    """Mean [`aed`][depthaware.metrics.aed] of identity embeddings."""

    function = staticmethod(face.aed)
    higher_is_better = False


class CSIMMetric(FunctionMetric):
    """Mean [`csim`][depthaware.metrics.csim] of identity embeddings."""

    function = staticmethod(face.csim)
    higher_is_better = True


class PRMSEMetric(FunctionMetric):
    """Mean [`prmse`][depthaware.metrics.prmse] of head poses: one root per frame."""

    function = staticmethod(face.prmse)
    higher_is_better = False


class AUCONMetric(FunctionMetric):
    """Mean [`aucon`][depthaware.metrics.aucon] of action units."""

    function = staticmethod(face.aucon)
    higher_is_better = True


class JitterMetric(FunctionMetric):
    """Mean [`jitter`][depthaware.metrics.jitter] of landmarks; each update is a sequence of consecutive frames."""

    function = staticmethod(face.jitter)
    higher_is_better = False


class AbsRelMetric(FunctionMetric):
    """Mean [`abs_rel`][depthaware.metrics.abs_rel] of depth maps."""

    function = staticmethod(depth.abs_rel)
    higher_is_better = False


class DepthRMSEMetric(FunctionMetric):
    """Mean [`depth_rmse`][depthaware.metrics.depth_rmse] of depth maps."""

    function = staticmethod(depth.depth_rmse)
    higher_is_better = False


class DeltaMetric(FunctionMetric):
    """Mean [`delta`][depthaware.metrics.delta] of depth maps."""

    function = staticmethod(depth.delta)
    higher_is_better = True


class OrdinalAccuracyMetric(FunctionMetric):
    """Mean [`ordinal_accuracy`][depthaware.metrics.ordinal_accuracy] of depth maps."""

    function = staticmethod(depth.ordinal_accuracy)
    higher_is_better = True


class SpearmanMetric(FunctionMetric):
    """Mean [`spearman`][depthaware.metrics.spearman] of depth maps."""

    function = staticmethod(depth.spearman)
    higher_is_better = True
