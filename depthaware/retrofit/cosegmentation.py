"""Retrofit of Motion-supervised Co-Part Segmentation (Siarohin et al. 2020)."""

from .family import Family
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["COSEGMENTATION", "Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]

COSEGMENTATION = Family(
    "cosegmentation",
    "motion co-segmentation",
    networks=("segmentation_module", "reconstruction_module"),
    heads=("shift", "segmentation"),
    optional_heads=("affine",),
    keypoints=("shift", "affine"),
    arguments=("seg_target", "seg_source"),
)
"""Declaration of motion co-segmentation, which computes its motion without a network of its own."""

retrofit, load_retrofit = COSEGMENTATION.retrofit, COSEGMENTATION.load_retrofit
keypoints = COSEGMENTATION.read_keypoints
