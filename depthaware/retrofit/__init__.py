"""Retrofit of depth into trained generators: the mechanism, and one file for each family of generators.

Each declares a `Family`, whose `retrofit` finds the places where depth enters, describes them in a `Plan` for each
network, and wraps both in `Retrofitted`.
"""

from .. import submodules
from . import cosegmentation, fomm, liveportrait, mcnet, mraa, osfv, tpsmm
from .additions import DepthChannel, DepthPyramid, depth_channels
from .family import Family
from .lookup import check_bare, encoder_widths, find_first_convolution, find_submodule
from .mechanism import Retrofitted
from .plan import NOTHING, Plan, Site
from .status import SiteStatus, Status
from .storage import Pair, load_additions, push_retrofit, save_retrofit
from .upgrade import upgrade_checkpoint

__all__ = [
    "NOTHING",
    "DepthChannel",
    "DepthPyramid",
    "Family",
    "Pair",
    "Plan",
    "Retrofitted",
    "Site",
    "SiteStatus",
    "Status",
    "check_bare",
    "cosegmentation",
    "depth_channels",
    "encoder_widths",
    "find_first_convolution",
    "find_submodule",
    "fomm",
    "liveportrait",
    "load_additions",
    "mcnet",
    "mraa",
    "osfv",
    "push_retrofit",
    "save_retrofit",
    "tpsmm",
    "upgrade_checkpoint",
]

__getattr__ = submodules(__name__)
