"""Retrofit of MCNet, re-exported from `depthaware.retrofit.mcnet`."""

from depthaware.retrofit.mcnet import *  # noqa: F403
