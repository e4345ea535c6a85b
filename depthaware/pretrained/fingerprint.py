"""Fingerprints of networks, by which a stored result names the weights that it belongs to."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def fingerprint(model: nn.Module, options: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of all weights and statistics of a network.

    Args:
        model: on any device; another dtype gives another fingerprint.
        options: JSON-able options that count as well, for those that no weight shows, such as a temperature.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    if options is not None:
        digest.update(json.dumps(options, sort_keys=True).encode())
    for key, tensor in model.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def detector_fingerprint(model: Any, image_size: int | None = None) -> str:
    """Fingerprint of what a model's key points come from: its detector, image size and, if it is used, depth network.

    Args:
        model: any that can be animated. Copies that no longer have the weights carry it as `detector_fingerprint`.
        image_size: the model's own if None.

    Raises:
        ValueError: if it has neither.
    """
    if known := getattr(model, "detector_fingerprint", None):
        return str(known)
    if getattr(model, "kp_detector", None) is None:
        raise ValueError("model: has no key point detector of which a fingerprint could be taken; export it again")
    uses_depth = getattr(model.kp_detector, "input", "rgb") != "rgb"
    networks = [model.kp_detector, *([model.depth_net] if uses_depth else [])]
    return fingerprint(nn.ModuleList(networks), {"image_size": image_size or model.image_size})
