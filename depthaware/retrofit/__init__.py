"""Retrofit of depth into trained generators: the mechanism, and one file for each family of generators.

`fomm` and `tpsmm` have a function `retrofit` that builds a `Plan` for each network and wraps both in `Retrofitted`. A
further family needs a file like theirs, made of the parts exported here.
"""

from .. import submodules
from . import fomm, tpsmm
from .additions import DepthChannel, DepthPyramid, depth_channels
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
    "Pair",
    "Plan",
    "Retrofitted",
    "Site",
    "SiteStatus",
    "Status",
    "check_bare",
    "depth_channels",
    "encoder_widths",
    "find_first_convolution",
    "find_submodule",
    "fomm",
    "load_additions",
    "push_retrofit",
    "save_retrofit",
    "tpsmm",
    "upgrade_checkpoint",
]

__getattr__ = submodules(__name__)
