"""Cross-modal attention: queries come from depth features, keys and values from the warped appearance."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

# Scores computed at a time: 8 MiB of float32, but never so few queries that matrix products become slow.
_SCORES, _QUERIES = 2**21, 256
# Queries and keys at a time in the backward pass: 4 MiB of weights, which stay in the cache.
_BLOCK = 1024


AttentionForm = Literal["released", "paper"]


class CrossModalAttention(nn.Module):
    """Depth-guided attention over a feature map: softmax(Q Kᵀ) V over all positions, without the 1/√d.

    form="paper" is the equation as printed: Q = W_q depth_feature, K = W_k feature, V = W_v feature, and the result
    replaces the feature. form="released", that of the authors' weights, has ReLU after each of the three, and adds the
    result to the feature through a gate: feature + gate · softmax(Q Kᵀ) V. The gate starts at 0, so that **a new module
    returns its input** and can be put into a trained network; what is trained from scratch may start at another value,
    since behind a gate of 0 nothing gets a gradient at first. The N x N attention is never stored: neither in
    inference nor in training, where the backward pass recomputes it. Only ``create_graph=True``, for second
    derivatives, stores it.

    Args:
        channels: C of both inputs.
        query_channels: width of queries and keys; C / 8 if None, as in the released code.
        form: "released" or "paper".
        initial_gate: of a new module; 0 with form="paper", which has no gate.

    Reference:
        Hong et al. 2022, section 3.4, eq. 9, figure 5.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        query_channels: int | None = None,
        form: AttentionForm = "released",
        initial_gate: float = 0.0,
    ) -> None:
        super().__init__()
        if form not in ("released", "paper"):
            raise ValueError(f"form: expected 'released' or 'paper', got {form!r}")
        if initial_gate and form == "paper":
            raise ValueError(f"initial_gate: expected 0 with form='paper', which has no gate, got {initial_gate}")
        self.form = form
        query_channels = query_channels or max(channels // 8, 1)
        self.query = nn.Conv2d(channels, query_channels, 1)
        self.key = nn.Conv2d(channels, query_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Parameter(torch.full((1,), float(initial_gate))) if form == "released" else None

    def forward(self, depth_feature: Tensor, feature: Tensor) -> Tensor:
        """Attend to `feature` from `depth_feature`.

        Args:
            depth_feature: (B or 1, C, h, w), source of the queries; for self-attention pass `feature`.
            feature: (B, C, h, w), source of the keys and values.

        Returns:
            (B, C, h, w).
        """
        query, key = self._query_and_key(depth_feature, feature)
        return self._attend(query, key, feature)

    def queries(self, depth_feature: Tensor) -> Tensor:
        """Compute the queries (B, h·w, D) of (B, C, h, w), which depend on the source alone; for `attend_from`."""
        return self._project(self.query, depth_feature)

    def attend_from(self, queries: Tensor, feature: Tensor) -> Tensor:
        """`forward` for `queries`, batch 1 or that of the feature."""
        return self._attend(queries.expand(feature.shape[0], -1, -1), self._project(self.key, feature), feature)

    def _attend(self, query: Tensor, key: Tensor, feature: Tensor) -> Tensor:
        value = self._project(self.value, feature)
        attended = rearrange(attend(query, key, value), "b (h w) c -> b c h w", h=feature.shape[-2])
        attended = attended.to(feature.dtype)
        return attended if self.gate is None else torch.addcmul(feature, self.gate, attended)

    def attention_map(self, depth_feature: Tensor, feature: Tensor, *, queries: Tensor) -> Tensor:
        """Compute the attention weights of selected query positions, for visualization.

        Args:
            depth_feature: (B or 1, C, h, w).
            feature: (B, C, h, w).
            queries: (Q,) row-major positions y · w + x in `depth_feature`.

        Returns:
            (B, Q, h, w), each map sums to 1.
        """
        query, key = self._query_and_key(depth_feature, feature)
        weights = (query[:, queries] @ key.transpose(1, 2)).softmax(dim=-1)
        return rearrange(weights, "b q (h w) -> b q h w", h=feature.shape[-2])

    def _query_and_key(self, depth_feature: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        if depth_feature.shape[1:] != feature.shape[1:] or depth_feature.shape[0] not in (1, feature.shape[0]):
            raise ValueError(
                f"depth_feature: expected the shape of feature {tuple(feature.shape)}, or batch 1, "
                f"got {tuple(depth_feature.shape)}"
            )
        query = self._project(self.query, depth_feature)
        return query.expand(feature.shape[0], -1, -1), self._project(self.key, feature)

    def _project(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        """A 1 x 1 convolution at every position, and ReLU in the released form: (B, C, h, w) -> (B, h·w, D).

        A matrix product, since a convolution makes two more copies of its input and output on a CPU.
        """
        assert layer.bias is not None
        weight = layer.weight.flatten(1).expand(x.shape[0], -1, -1)
        x = rearrange(x, "b c h w -> b c (h w)").to(weight.dtype)
        x = torch.baddbmm(layer.bias[:, None], weight, x)
        return (x.relu_() if self.form == "released" else x).mT


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(query keyᵀ) value in chunks of queries, so that memory grows with N instead of N².

    On a GPU PyTorch's fused kernels do that; on a CPU these fall back to the explicit N x N product where the widths of
    key and value differ, as 32 and 256 do.

    Args:
        query: (B, M, d).
        key: (B, N, d).
        value: (B, N, C).

    Returns:
        (B, M, C).
    """
    if torch.compiler.is_exporting():  # chunks as below would fix the batch size
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))  # OpenVINO fuses it in four dimensions alone
        parts = [(part @ key.mT).softmax(dim=-1).to(value.dtype) @ value for part in query.split(_QUERIES, dim=2)]
        return torch.cat(parts, dim=2).squeeze(1)
    if query.is_cuda:
        # Unscaled scores need the precision of query and key.
        q, k, v = (x.unsqueeze(1).to(query.dtype).contiguous() for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1).to(value.dtype)
    return _Attend.apply(query, key, value)


class _Attend(torch.autograd.Function):
    """Chunked attention whose backward pass recomputes the weights.

    Chunks share memory allocated beforehand: allocated and freed one by one, with the outputs kept between them, they
    would fragment the heap up to the N² that is to be avoided.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = value.new_empty(*query.shape[:2], value.shape[-1])
        log_sum = query.new_empty(*query.shape[:2], 1, dtype=torch.promote_types(query.dtype, torch.float32))
        for i, rows, scores in _chunks(query, key):
            largest = scores.amax(-1, keepdim=True) if any(ctx.needs_input_grad) else None
            weights = torch.softmax(scores, dim=-1, out=scores)
            torch.mm(weights.to(value.dtype), value[i], out=out[i, rows])
            if largest is not None:  # its weight is 1 over the sum of all exp(score - largest)
                log_sum[i, rows] = largest - weights.amax(-1, keepdim=True).log()
        ctx.save_for_backward(query, key, value, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, out, log_sum = ctx.saved_tensors
        # Backward of the softmax; its row sums of weights · gradient equal those of output · gradient.
        inner = (grad * out).sum(-1, keepdim=True)
        if torch.is_grad_enabled():  # create_graph=True: in operations that have a derivative, which store N²
            weights = (query @ key.mT).softmax(dim=-1)
            grad_scores = weights * (grad @ value.mT - inner).to(weights.dtype)
            return grad_scores @ key, grad_scores.mT @ query, weights.mT.to(value.dtype) @ grad
        grads = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        scores, products = (x.new_empty(_BLOCK**2) for x in (query, value))
        for i, rows, columns in _blocks(query, key):
            q, k, v, g = query[i, rows], key[i, columns], value[i, columns], grad[i, rows]
            shape = len(q), len(k)
            weights, change = scores[: len(q) * len(k)].view(shape), products[: len(q) * len(k)].view(shape)
            torch.mm(q, k.mT, out=weights).sub_(log_sum[i, rows]).exp_()
            grads[2][i, columns].addmm_(weights.mT.to(value.dtype), g)
            weights.mul_(torch.mm(g, v.mT, out=change).sub_(inner[i, rows]))
            grads[0][i, rows].addmm_(weights, k)
            grads[1][i, columns].addmm_(weights.mT, q)
        return grads


def _chunks(query: Tensor, key: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Yield sample index, range of queries and their scores with all keys, which share one buffer."""
    step = max(_QUERIES, _SCORES // key.shape[1])
    buffer = query.new_empty(min(step, query.shape[1]), key.shape[1])
    for i in range(len(query)):
        for start in range(0, query.shape[1], step):
            part = query[i, start : start + step]
            yield i, slice(start, start + step), torch.mm(part, key[i].mT, out=buffer[: len(part)])


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Yield sample index, range of queries and range of keys."""
    starts = product(range(len(query)), range(0, query.shape[1], _BLOCK), range(0, key.shape[1], _BLOCK))
    return ((i, slice(row, row + _BLOCK), slice(column, column + _BLOCK)) for i, row, column in starts)
