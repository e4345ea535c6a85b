"""Retrofit of MCNet, the Memory Compensation Network (Hong and Xu 2023): FOMM's detector, a decoder like TPSMM's."""

from .family import Family
from .fomm_networks import keypoints
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["MCNET", "Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]

MCNET = Family(
    "mcnet",
    "MCNet",
    heads=("kp",),
    optional_heads=("jacobian",),
    generator=("dense_motion_network", "mbUnit"),
    features=("resblock",),  # after the memory unit, which one module is for all levels
    blocks=2,
)
"""Declaration of MCNet."""

retrofit, load_retrofit = MCNET.retrofit, MCNET.load_retrofit
