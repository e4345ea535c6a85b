"""A web page that animates portraits, made with Gradio (extra `app`)."""

from .. import submodules

__getattr__ = submodules(__name__)
