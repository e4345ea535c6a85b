"""Export: a DaGAN as graphs for ONNX Runtime or PyTorch, and the models that run them."""

from .exporter import Exported, export
from .runtimes import ExportedDaGAN

__all__ = ["Exported", "ExportedDaGAN", "export"]
