"""Retrofit of TPSMM, re-exported from `depthaware.retrofit.tpsmm`."""

from depthaware.retrofit.tpsmm import *  # noqa: F403
