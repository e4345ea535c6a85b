"""Batch norm over the batches of all processes, on CPUs too, where PyTorch has none."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["SyncedBatchNorm2d", "synchronize_batch_norms"]


def synchronize_batch_norms(network: nn.Module) -> None:
    """Replace the batch norms of a network, in place, by ones over the batch of all processes.

    Parameters and buffers stay the same tensors, so that optimizers and state dicts keep working.

    Args:
        network: every process must give it the same number of samples.
    """
    on_gpu = next(network.parameters()).is_cuda
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                convert = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else SyncedBatchNorm2d.from_batch_norm
                setattr(module, name, convert(child))


class _Sum(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` whose statistics are those of the batches of all processes together."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d) -> "SyncedBatchNorm2d":
        """A norm with the same options, and the same tensors, as `norm`."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synced._parameters, synced._buffers = norm._parameters, norm._buffers
        return synced.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.track_running_stats:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        count = x.numel() // x.shape[1] * dist.get_world_size()
        values = x.float()
        # In two passes: the difference of a mean square and a squared mean would lose digits.
        mean = _Sum.apply(values.sum((0, 2, 3))) / count
        variance = _Sum.apply((values - mean[:, None, None]).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(x.dtype)
