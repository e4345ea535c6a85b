"""Retrofit of MRAA, re-exported from `depthaware.retrofit.mraa`."""

from depthaware.retrofit.mraa import *  # noqa: F403
