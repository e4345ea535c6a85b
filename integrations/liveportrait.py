"""Retrofit of LivePortrait, re-exported from `depthaware.retrofit.liveportrait`."""

from depthaware.retrofit.liveportrait import *  # noqa: F403
