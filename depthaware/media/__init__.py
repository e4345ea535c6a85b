"""Image, video and audio files; atomic writes; threads that read and write ahead."""

from .. import submodules

__getattr__ = submodules(__name__)
