"""The model of `depthaware animate`, made fast."""

import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from .common import check_weights, load_model

if TYPE_CHECKING:
    from ..dagan import DaGAN
    from ..inference.optimization import OptimizedDaGAN
    from ..inference.options import SupportsAnimation
    from ..inference.resolution import EnlargedDaGAN


def load_fast(args: Namespace, frames: int) -> "SupportsAnimation":
    """Load the model, optimized or exported; `frames` is the largest batch that it will see."""
    if args.backend in ("torch", "auto"):
        model = load_model(args)
        if args.backend == "torch" or next(model.parameters()).is_cuda:
            return _fast(model, args, frames)
        from ..export.choice import choose_fastest

        return choose_fastest(
            model,
            args.graphs,
            batch_size=min(args.batch_size, frames),
            notes=lambda line: None if args.quiet else print(f"depthaware: {line}", file=sys.stderr),
        )
    import torch

    from ..export.runtimes import ExportedDaGAN

    where = {"device": args.device or "CPU", "dtype": getattr(torch, args.dtype or "float32")}
    return ExportedDaGAN(args.weights, runtime=args.backend, **where)


def check_backend(args: Namespace) -> None:
    """Refuse a backend with options that it does not have, without PyTorch."""
    if args.graphs and args.backend != "auto":
        raise ValueError(f"--graphs: are tried by --backend auto, got --backend {args.backend}")
    if args.backend in ("torch", "auto"):
        check_weights(args)
    if args.backend == "torch":
        return
    known = {"auto": [], "onnxruntime": ["float32"], "openvino": ["float32", "bfloat16"]}[args.backend]
    if args.compile or args.dtype not in (None, *known):
        dtypes = f"of --dtype only {' or '.join(known)}" if known else "no --dtype"
        raise ValueError(f"--backend {args.backend}: expected {dtypes}, and no --compile")
    if args.backend != "openvino" and args.device not in (None, "cpu"):
        raise ValueError(f"--device {args.device}: expected cpu, on which {args.backend} works here")
    if args.resolution is not None:
        raise ValueError(f"--backend {args.backend}: has the size that was exported, expected no --resolution")


def _fast(model: "DaGAN", args: Namespace, frames: int) -> "OptimizedDaGAN | EnlargedDaGAN":
    import torch

    from ..inference.optimization import best_dtype, optimize
    from ..inference.resolution import check_size, enlarge

    if args.resolution is not None:
        check_size(model, args.resolution, "--resolution")
    device = next(model.parameters()).device
    dtype = getattr(torch, args.dtype) if args.dtype else best_dtype(device)
    optimized = optimize(model, dtype=dtype, compile=args.compile)
    fast = optimized if args.resolution is None else enlarge(optimized, args.resolution)
    if args.compile:
        _warm_up(fast, min(args.batch_size, frames), args.quiet)
    return fast


def _warm_up(model: "OptimizedDaGAN | EnlargedDaGAN", batch_size: int, quiet: bool) -> None:
    import torch

    start = time.monotonic()
    images = torch.rand(batch_size, 3, model.image_size, model.image_size, device=next(model.parameters()).device)
    try:
        with torch.inference_mode():
            for _ in range(3):  # a CUDA graph is recorded in the second
                model.drive(model.encode_source(images[:1]), model.detect_keypoints(images))
    except RuntimeError as error:
        if type(error).__name__ != "InductorError":
            raise
        raise ValueError(f"--compile: {str(error).splitlines()[0]}") from error
    if not quiet:
        print(f"compiled in {time.monotonic() - start:.0f} s", file=sys.stderr)
