"""Retrofit of motion co-segmentation, re-exported from `depthaware.retrofit.cosegmentation`."""

from depthaware.retrofit.cosegmentation import *  # noqa: F403
