"""Retrofit of MRAA, Motion Representations for Articulated Animation (Siarohin et al. 2021)."""

from .family import Family
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["MRAA", "Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]

MRAA = Family(
    "mraa",
    "MRAA",
    networks=("region_predictor", "generator"),
    heads=("regions",),
    optional_heads=("jacobian",),  # unless affine transformations come from the regions' principal axes
    generator=("pixelwise_flow_predictor",),
    keypoints=("shift", "affine"),
    arguments=("driving_region_params", "source_region_params"),
)
"""Declaration of MRAA; its key point detector is the region predictor."""

retrofit, load_retrofit, keypoints = MRAA.retrofit, MRAA.load_retrofit, MRAA.read_keypoints
