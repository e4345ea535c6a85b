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
