"""Evaluation metrics: pure functions with one value per sample, independent of the networks that find faces.

Every function takes the prediction first and the target second. None of them averages over samples: `Average` does, and
counts the samples without a detection (NaN).
"""

from .average import Average, bootstrap_interval
from .depth import abs_rel, delta, depth_rmse, median_scale, ordinal_accuracy, spearman
from .face import aed, akd, aucon, csim, jitter, prmse
from .image import l1, ms_ssim, psnr, ssim
from .network import FID, LPIPS
from .temporal import delay, tremor

__all__ = [
    "FID",
    "LPIPS",
    "Average",
    "abs_rel",
    "aed",
    "akd",
    "aucon",
    "bootstrap_interval",
    "csim",
    "delay",
    "delta",
    "depth_rmse",
    "jitter",
    "l1",
    "median_scale",
    "ms_ssim",
    "ordinal_accuracy",
    "prmse",
    "psnr",
    "spearman",
    "ssim",
    "tremor",
]
