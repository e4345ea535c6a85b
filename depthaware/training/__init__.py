"""Training: runs that resume exactly, and the networks and losses of both stages.

Command lines of recipes are in `depthaware.training.options`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import submodules

if TYPE_CHECKING:
    from .ema import EMA as EMA
    from .run import Run as Run
    from .run_options import RunOptions as RunOptions
    from .stage1 import DepthStep as DepthStep
    from .stage2 import GeneratorStep as GeneratorStep

# Imported when first used, so that `depthaware.training.options` alone imports no PyTorch.
_HOMES = {"EMA": "ema", "DepthStep": "stage1", "GeneratorStep": "stage2", "Run": "run", "RunOptions": "run_options"}
__all__ = ["EMA", "DepthStep", "GeneratorStep", "Run", "RunOptions"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return submodules(__name__)(name)
