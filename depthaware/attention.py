"""Cross-modal attention: depth features query the warped appearance."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Scores computed at a time: 8 MiB of float32. Larger is no faster on a CPU and only costs memory.
_SCORES = 2**21


class CrossModalAttention(nn.Module):
    """Depth-guided attention over a feature map, with a residual gate that starts at zero.

    output = gate · softmax(Q Kᵀ) V + feature, where Q = ReLU(W_q depth_feature), K = ReLU(W_k feature),
    V = ReLU(W_v feature), and the softmax runs over all positions of `feature` without the 1/√d. The N x N attention is
    never held: neither in inference nor, by recomputing it in the backward pass, in training.

    Args:
        channels: C of both inputs.
        query_channels: width of queries and keys; C / 8 if None, as in the paper.

    Reference:
        Hong et al. 2022, section 3.3, eq. 7 and 8.
    """

    def __init__(self, channels: int = 256, *, query_channels: int | None = None) -> None:
        super().__init__()
        query_channels = query_channels or max(channels // 8, 1)
        self.query = nn.Conv2d(channels, query_channels, 1)
        self.key = nn.Conv2d(channels, query_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, depth_feature: Tensor, feature: Tensor) -> Tensor:
        """Attend to `feature` from `depth_feature`.

        Args:
            depth_feature: (B or 1, C, h, w), asks; for self-attention pass `feature`.
            feature: (B, C, h, w), answers.

        Returns:
            (B, C, h, w).
        """
        query, key = self._project(depth_feature, feature)
        value = _positions(F.relu(self.value(feature)))
        attended = rearrange(attend(query, key, value), "b (h w) c -> b c h w", h=feature.shape[-2])
        return torch.addcmul(feature, self.gate, attended)

    def attention_map(self, depth_feature: Tensor, feature: Tensor, *, queries: Tensor) -> Tensor:
        """The attention weights of chosen query positions, to look at.

        Args:
            depth_feature: (B or 1, C, h, w).
            feature: (B, C, h, w).
            queries: (Q,) row-major positions y · w + x in `depth_feature`.

        Returns:
            (B, Q, h, w), each map sums to 1.
        """
        query, key = self._project(depth_feature, feature)
        weights = (query[:, queries] @ key.transpose(1, 2)).softmax(dim=-1)
        return rearrange(weights, "b q (h w) -> b q h w", h=feature.shape[-2])

    def _project(self, depth_feature: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        if depth_feature.shape[1:] != feature.shape[1:]:
            raise ValueError(
                f"depth_feature {tuple(depth_feature.shape)} and feature {tuple(feature.shape)}: "
                "expected the same channels and size"
            )
        query = _positions(F.relu(self.query(depth_feature)))
        return query.expand(len(feature), -1, -1), _positions(F.relu(self.key(feature)))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query keyᵀ) value in chunks of queries, so that memory grows with N instead of N².

    Args:
        query: (B, M, d).
        key: (B, N, d).
        value: (B, N, C).

    Returns:
        (B, M, C).
    """
    # On a CPU `scaled_dot_product_attention` falls back to the explicit N x N product for these widths (32 and 256).
    rows = max(1, _SCORES // (key.shape[0] * key.shape[1]))
    chunks = []
    for part in query.split(rows, dim=1):
        if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
            chunks.append(checkpoint(_attend_chunk, part, key, value, use_reentrant=False))
        else:
            chunks.append(_attend_chunk(part, key, value))
    return torch.cat(chunks, dim=1)


def _attend_chunk(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(1, 2)).softmax(dim=-1) @ value


def _positions(x: Tensor) -> Tensor:
    return rearrange(x, "b c h w -> b (h w) c")
