"""A fast copy of a trained DaGAN for inference: the same results, within rounding."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fusion, parametrize
from torch.utils._pytree import tree_map

from ..blocks import Hourglass, UpBlock
from ..dagan import DaGAN, DaGANOutput, SourceEncoding
from ..depth import SelfSupDepthNet, normalize
from ..generator import PlainDecoder
from ..keypoints import Keypoints
from ..pretrained.fingerprint import detector_fingerprint
from .polyphase import PhaseConv, UpsampledConv


class OptimizedDaGAN(nn.Module):
    """A fast copy of a `DaGAN`, made by `optimize`: the same interface for inference, neither trained nor saved.

    Args:
        model: with optimized networks.
        done: names of the applied optimizations.

    Attributes:
        image_size: that of the model.
    """

    def __init__(self, model: DaGAN, done: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.done, self.image_size = model, done, model.image_size
        self.detector_fingerprint = ""  # of the model that it was made from

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model has: its networks, `detect`, `config`, `card`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, source_image: Tensor, driving_image: Tensor) -> DaGANOutput:
        """`DaGAN.forward`."""
        return self.model(source_image, driving_image)

    def detect_keypoints(self, image: Tensor) -> Keypoints:
        """`DaGAN.detect_keypoints`."""
        return self.model.detect_keypoints(image)

    def encode_source(self, source_image: Tensor) -> SourceEncoding:
        """`DaGAN.encode_source`."""
        return self.model.encode_source(source_image)

    def drive(self, source: SourceEncoding, kp_driving: Keypoints, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """`DaGAN.drive`."""
        return self.model.drive(source, kp_driving, dtype=dtype)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Raise ValueError: these weights fit no `DaGAN`."""
        raise ValueError("model: is optimized and cannot be saved, expected the one that it was made from")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Raise ValueError, like `save_pretrained`."""
        raise ValueError("model: is optimized and cannot be pushed, expected the one that it was made from")


def optimize(model: DaGAN, *, dtype: torch.dtype = torch.float32, compile: bool = False) -> OptimizedDaGAN:
    """Make a fast copy of a model, for inference on the device where the model is.

    Batch norms are folded into the convolutions before them, layers that follow an up-sampling are computed before it
    (see `polyphase`), and memory is laid out channels last. That changes results by rounding alone, less than 1e-4.

    Args:
        model: trained; stays as it is.
        dtype: of the depth network, both hourglasses, the attended values and the decoder, which are nearly all of the
            work. Everything else, coordinates among it, remains float32.
        compile: also compile these networks with `torch.compile`, weights frozen, on a GPU with CUDA graphs. It happens
            at their first use, once for each batch size, takes a minute or two on a CPU and needs a C++ compiler.

    Returns:
        A model whose attribute `done` names the applied optimizations.
    """
    if isinstance(model, OptimizedDaGAN):
        raise ValueError("model: is optimized already, expected the one that it was made from")
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norms(fast)
    use_phases(fast)
    fast.to(memory_format=torch.channels_last)
    done = ["batch norms folded", "up-sampling in phases", "channels last"]
    networks = [fast.depth_net, fast.kp_detector.hourglass, fast.dense_motion.hourglass, fast.generator.decoder]
    heavy = [network for network in networks if network is not None]
    if dtype != torch.float32:
        for network in heavy:
            _compute_in(network, dtype)
        if fast.generator.attention is not None:
            fast.generator.attention.value.to(dtype)
        done.append(str(dtype).removeprefix("torch."))
    if compile:
        graphs = next(model.parameters()).is_cuda
        for network in heavy:
            _compile(network, graphs)
        done.append("compiled with CUDA graphs" if graphs else "compiled")
    optimized = OptimizedDaGAN(fast, tuple(done)).eval()
    optimized.detector_fingerprint = detector_fingerprint(model)
    return optimized


def _compile(network: nn.Module, graphs: bool) -> None:
    how: dict[str, Any] = {"mode": "reduce-overhead"} if graphs else {"options": {"freezing": True}}
    network.forward = torch.compile(network.forward, dynamic=False, **how)  # type: ignore[method-assign]
    if graphs:  # the next run overwrites the output of this one
        network.register_forward_hook(lambda *call: tree_map(torch.clone, call[-1]))


def best_dtype(device: torch.device) -> torch.dtype:
    """Choose the dtype for `optimize`: bfloat16 where the device supports it natively, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older PyTorch
        native = device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


def fold_batch_norms(model: nn.Module) -> None:
    """Fold batch norms into the convolutions right before them, and spectral norms into their weights."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and parametrize.is_parametrized(child):
                setattr(module, name, _bare(child))
        for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            owner = module
            if isinstance(conv, nn.Sequential) and len(conv):  # the deep stem of a ResNet
                owner, (name, conv) = conv, list(conv.named_children())[-1]
            if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:  # not timm's, which include an activation
                setattr(owner, name, fusion.fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())


def _bare(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the current value of a parametrized weight; removing the parametrization breaks copies."""
    bare = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.weight.shape[-1],
        stride=conv.stride[0],
        padding=conv.padding[0],
        bias=conv.bias is not None,
    )
    bare.weight = nn.Parameter(conv.weight.detach(), requires_grad=False)
    bare.bias = conv.bias
    return bare


def use_phases(model: DaGAN) -> None:
    """Compute convolutions after an up-sampling at the resolution before it; call `fold_batch_norms` first."""
    for module in list(model.modules()):
        if isinstance(module, Hourglass):
            for index in range(len(module.up_blocks))[
                -2:
            ]:  # coarser ones have few positions and would only read more weights
                module.up_blocks[index] = _up_block(module.up_blocks[index])
    if isinstance(model.generator.decoder, PlainDecoder) and len(model.generator.decoder.up_blocks):
        model.generator.decoder = _Decoder(model.generator.decoder)
    if model.depth_net is not None:
        model.depth_net = _DepthNet(model.depth_net)


def _up_block(block: Any) -> nn.Module:
    return nn.Sequential(UpsampledConv(block.conv), nn.ReLU(inplace=True))


class _Decoder(PlainDecoder):
    """A `PlainDecoder` whose last two layers compute on phases."""

    def __init__(self, decoder: PlainDecoder) -> None:
        nn.Module.__init__(self)
        *blocks, last = decoder.up_blocks
        assert isinstance(last, UpBlock)
        self.bottleneck = decoder.bottleneck
        self.up_blocks = nn.Sequential(*map(_up_block, blocks))
        self.last, self.end = UpsampledConv(last.conv), PhaseConv(decoder.final)

    def forward(self, feature: Tensor, condition: Tensor) -> Tensor:
        x = self.up_blocks(self.bottleneck(feature))
        return self.end(self.last.staggered(x).relu_()).sigmoid_()


class _DepthNet(SelfSupDepthNet):
    """A `SelfSupDepthNet` that predicts only the finest disparity, up-sampling in phases."""

    def __init__(self, net: SelfSupDepthNet) -> None:
        nn.Module.__init__(self)
        self.encoder, self.reduce = net.encoder, net.reduce
        layers: Any = zip(net.fuse, net.reduce, strict=True)
        parts = [_split(fuse, reduce.out_channels) for fuse, reduce in layers]
        self.coarse = nn.ModuleList(UpsampledConv(coarse) for coarse, _ in parts)
        self.skip = nn.ModuleList(skip for _, skip in parts)
        head: Any = net.heads[0]
        self.head = PhaseConv(head)

    def forward(self, image: Tensor, *, num_scales: int = 1) -> tuple[Tensor, ...]:
        if num_scales != 1:
            raise ValueError(f"num_scales: expected 1 of an optimized network, got {num_scales}")
        features = self.encoder(normalize(image))
        x = features[-1]
        for level in (4, 3, 2, 1):
            x = self.coarse[level](F.elu(self.reduce[level](x), inplace=True))
            x = F.elu(x + self.skip[level](features[level - 1]), inplace=True)
        finest: Any = self.coarse[0]
        x = finest.staggered(F.elu(self.reduce[0](x), inplace=True))
        return (self.head(F.elu(x, inplace=True)).sigmoid_(),)


def _split(conv: nn.Conv2d, channels: int) -> tuple[nn.Conv2d, nn.Module]:
    """Split a convolution of two concatenated maps into one for each; their outputs sum to its output."""
    first, rest = conv.weight[:, :channels], conv.weight[:, channels:]
    parts = []
    for weight in (first, rest):
        part = copy.deepcopy(conv)
        part.weight, part.in_channels = nn.Parameter(weight, requires_grad=False), weight.shape[1]
        parts.append(part)
    parts[1].bias = None
    return parts[0], parts[1] if rest.shape[1] else nn.Identity()


def _compute_in(network: nn.Module, dtype: torch.dtype) -> None:
    def lower(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.to(dtype) for x in inputs)

    def raise_(_: nn.Module, inputs: Any, output: Any) -> Any:
        return output.float() if isinstance(output, Tensor) else tuple(x.float() for x in output)

    network.to(dtype)
    network.register_forward_pre_hook(lower)
    network.register_forward_hook(raise_)
