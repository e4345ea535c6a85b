"""Retrofit of the Thin-Plate-Spline Motion Model (Zhao and Zhang 2022) and generators with its structure.

In contrast to FOMM, its key points come from a ResNet without heat maps, its dense motion from a separate network, and
its decoder receives warped appearance features at every level.
"""

from .family import Family
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["TPSMM", "Retrofitted", "keypoints", "load_retrofit", "retrofit", "save_retrofit"]

TPSMM = Family(
    "tpsmm",
    "the Thin-Plate-Spline Motion Model",
    networks=("kp_detector", "inpainting_network"),
    detector=("fg_encoder",),
    features=("resblock",),
    blocks=2,
    keypoints=("fg_kp",),
    arguments=(),  # the generator receives a dense motion
)
"""Declaration of the Thin-Plate-Spline Motion Model; its generator is the inpainting network."""

retrofit, load_retrofit, keypoints = TPSMM.retrofit, TPSMM.load_retrofit, TPSMM.read_keypoints
