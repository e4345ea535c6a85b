"""Retrofit of FOMM, the First Order Motion Model (Siarohin et al. 2019), and generators with its structure.

`retrofit` accepts networks of the authors' code or of forks such as Avatarify's, and those of `load_fomm`, which does
not need it.
"""

from .family import Family
from .fomm_networks import FOMMGenerator, FOMMKeypointDetector, keypoints, load_fomm
from .mechanism import Retrofitted
from .merging import merge
from .storage import save_retrofit

__all__ = [
    "FOMM",
    "FOMMGenerator",
    "FOMMKeypointDetector",
    "Retrofitted",
    "keypoints",
    "load_fomm",
    "load_retrofit",
    "merge",
    "retrofit",
    "save_retrofit",
]

FOMM = Family(
    "fomm",
    "FOMM",
    heads=("kp",),  # the hourglass passes the image on to them
    optional_heads=("jacobian",),
    generator=("dense_motion_network",),
)
"""Declaration of FOMM."""

retrofit, load_retrofit = FOMM.retrofit, FOMM.load_retrofit
