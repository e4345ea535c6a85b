"""Retrofit of one-shot free-view talking heads (Wang et al. 2021) with either decoder, and of SadTalker's renderer.

The detector is that of canonical key points; pose and expression are estimated, or in SadTalker mapped, by networks of
their own, which stay as they are.
"""

from .family import Family
from .mechanism import Retrofitted
from .storage import save_retrofit

__all__ = ["OSFV", "Retrofitted", "load_retrofit", "retrofit", "save_retrofit"]

OSFV = Family(
    "osfv",
    "one-shot free-view talking heads",
    volumes=("kp",),
    generator=("resblocks_3d", "dense_motion_network"),
    features=("resblocks_2d", "decoder"),  # the plain and the SPADE generator
)
"""Declaration of one-shot free-view talking heads."""

retrofit, load_retrofit = OSFV.retrofit, OSFV.load_retrofit
