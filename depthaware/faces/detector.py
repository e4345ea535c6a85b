"""Detection of faces of any size in images of any size."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from .blazeface import FullRange, ShortRange

_WEIGHTS = Path(__file__).parents[1] / "assets" / "face_detector"
_NETWORKS = {"short_range": ShortRange, "full_range": FullRange}

Floats = npt.NDArray[np.float32]


@cache
def load_network(name: str) -> ShortRange | FullRange:
    """Load a bundled network, "short_range" or "full_range", on the CPU; every call returns the same one."""
    network = _NETWORKS[name]().eval().requires_grad_(False)
    weights = load_file(_WEIGHTS / f"{name}.safetensors")
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    return network.to(memory_format=torch.channels_last)


def decode(offsets: Floats, centers: Floats) -> tuple[Floats, Floats]:
    """Offsets (N, 16) from anchors (N, 2) -> boxes (N, 4) left, top, right, bottom, and points (N, 6, 2)."""
    middle, half = offsets[:, :2] + centers, offsets[:, 2:4] / 2
    points = offsets[:, 4:].reshape(-1, 6, 2) + centers[:, None]
    return np.concatenate([middle - half, middle + half], axis=1), points
