"""Retrofit of one-shot free-view talking heads, re-exported from `depthaware.retrofit.osfv`."""

from depthaware.retrofit.osfv import *  # noqa: F403
