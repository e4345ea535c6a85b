"""Depth for FOMM: `depthaware.retrofit.fomm` under its other name."""

from depthaware.retrofit.fomm import *  # noqa: F403
