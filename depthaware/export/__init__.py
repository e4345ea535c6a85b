"""Export: a DaGAN as graphs for ONNX Runtime, OpenVINO or PyTorch, and the models that run them; or as a web page."""

from .choice import choose_fastest
from .exporter import Exported, export
from .runtimes import ExportedDaGAN
from .site import export_site

__all__ = ["Exported", "ExportedDaGAN", "choose_fastest", "export", "export_site"]
