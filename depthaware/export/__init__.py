"""Export: a DaGAN as graphs for ONNX Runtime or PyTorch, and the models that run them; or as a web page."""

from .exporter import Exported, export
from .runtimes import ExportedDaGAN
from .site import export_site

__all__ = ["Exported", "ExportedDaGAN", "export", "export_site"]
