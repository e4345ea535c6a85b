"""Evaluation metrics: pure functions with one value per sample, independent of the networks that find faces.

Every function takes the prediction first and the target second. None of them averages over samples: `Average` does, and
counts the samples without a detection (NaN).
"""

from typing import Any

from .. import submodules
from .average import Average, bootstrap_interval
from .depth import abs_rel, delta, depth_rmse, median_scale, ordinal_accuracy, spearman
from .expression import (
    MOVING,
    ExpressionTransfer,
    expression_transfer,
    eye_opening,
    mouth_opening,
    mouth_width,
)
from .face import aed, akd, aucon, csim, jitter, prmse
from .image import l1, ms_ssim, psnr, ssim
from .network import FID, LPIPS
from .temporal import delay, tremor

__all__ = [
    "FID",
    "LPIPS",
    "MOVING",
    "Average",
    "ExpressionTransfer",
    "abs_rel",
    "aed",
    "akd",
    "aucon",
    "bootstrap_interval",
    "csim",
    "delay",
    "delta",
    "depth_rmse",
    "expression_transfer",
    "eye_opening",
    "jitter",
    "l1",
    "median_scale",
    "mouth_opening",
    "mouth_width",
    "ms_ssim",
    "ordinal_accuracy",
    "prmse",
    "psnr",
    "spearman",
    "ssim",
    "tremor",
]

MODULES = tuple(
    f"{name}Metric"
    for name in (
        *("Function", "L1", "PSNR", "SSIM", "MSSSIM", "AKD", "AED", "CSIM", "PRMSE", "AUCON", "Jitter"),
        *("AbsRel", "DepthRMSE", "Delta", "OrdinalAccuracy", "Spearman"),
    )
)
"""Names of the functions as `torchmetrics.Metric`, imported from `modules` on first use, as it needs torchmetrics."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        from . import modules

        return getattr(modules, name)
    return submodules(__name__)(name)


def __dir__() -> list[str]:
    return [*globals(), *MODULES]
