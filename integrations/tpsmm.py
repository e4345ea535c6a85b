"""Depth for TPSMM: `depthaware.retrofit.tpsmm` under its other name."""

from depthaware.retrofit.tpsmm import *  # noqa: F403
