"""Retrofit of FOMM, re-exported from `depthaware.retrofit.fomm`."""

from depthaware.retrofit.fomm import *  # noqa: F403
