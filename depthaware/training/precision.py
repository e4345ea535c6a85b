"""The compute dtype of a training run."""

from typing import Any

import torch

from ..inference.optimization import best_dtype


def resolved_precision(options: Any) -> str:
    """The compute dtype, "bfloat16" or "float32", of options with `precision` and `cpu`."""
    if options.precision != "auto":
        return options.precision
    device = torch.device("cpu" if options.cpu or not torch.cuda.is_available() else "cuda")
    return str(best_dtype(device)).removeprefix("torch.")
