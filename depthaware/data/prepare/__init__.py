"""From raw videos to clips of one face each."""

from ... import submodules

__getattr__ = submodules(__name__)
