"""Image files, and conversion between pixels and model inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from .atomic import whole_file
from .provenance import png_info
from .sequence import find_images as find_images
from .still import Image as Image
from .still import read_image as read_image
from .still import to_srgb

AnyImage = str | Path | PIL.Image.Image | npt.NDArray[Any] | Tensor
Fit = Literal["crop", "pad", "stretch"]
_ROUNDING = 1e-3  # beyond [0, 1], a quarter of a level of 8 bits


def load_image(image: AnyImage) -> Image:
    """Turn an image of any kind into pixels.

    Args:
        image: path of a file; image of Pillow, turned upright and converted to sRGB like a file; array or tensor,
            (H, W), (H, W, C) or (C, H, W), of gray, RGB or RGBA (laid over white), uint8, uint16, or floats in [0, 1].

    Returns:
        (H, W, 3), RGB.

    Raises:
        ValueError: if it has another shape or type, values outside [0, 1] or NaN, or the file cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    return to_uint8(to_tensor(image))[0]


def fit_square(image: AnyImage, size: int, mode: Fit = "crop", device: torch.device | None = None) -> Tensor:
    """Fit an image of any shape to the square input of a model.

    Args:
        image: uint8 (H, W, 3), floats (3, H, W) or (1, 3, H, W) in [0, 1], or any other image of `load_image`.
        size: side in pixels.
        mode: "crop" the central square, "pad" to a square with black, or "stretch".
        device: of the result; that of the image if None.

    Returns:
        (1, 3, size, size) in [0, 1], resized with anti-aliasing.
    """
    if mode not in ("crop", "pad", "stretch"):
        raise ValueError(f"fit: expected 'crop', 'pad' or 'stretch', got {mode!r}")
    pixels = _planes(image)
    height, width = pixels.shape[-2:]
    side = min(height, width) if mode == "crop" else max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    if mode != "stretch":  # negative padding crops
        pixels = F.pad(pixels, (left, side - width - left, top, side - height - top))
    pixels = _to_floats(pixels, device)
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True).to(device)


def to_tensor(image: AnyImage, device: torch.device | None = None) -> Tensor:
    """Any image of `load_image` -> float32 (1, 3, H, W) in [0, 1]."""
    return _to_floats(_planes(image), device).to(device)


def _planes(image: AnyImage) -> Tensor:
    """(1, 3, H, W), still uint8 if the image is."""
    pixels = _channels_first(_pixels(image))
    if pixels.dtype != torch.uint8:
        pixels = _in_range(pixels.float())
    if pixels.shape[1] == 4:
        color, alpha = _to_floats(pixels, None).split((3, 1), dim=1)
        return color * alpha + 1 - alpha
    return pixels.expand(-1, 3, -1, -1)


def _pixels(image: AnyImage) -> Tensor:
    """uint8 or floats, in any layout."""
    if isinstance(image, str | Path):
        image = read_image(image)
    elif isinstance(image, PIL.Image.Image):
        image = to_srgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint16:
            image = image.astype(np.float32) / 65535
        if image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating):
            # Arrays may be mirrored or read-only views, which PyTorch rejects.
            image = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    if isinstance(image, Tensor) and (image.dtype == torch.uint8 or image.is_floating_point()) and image.numel():
        return image
    got = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, np.ndarray | Tensor) else type(image).__name__
    raise ValueError(f"image: expected a path, an image of Pillow, uint8 (H, W, 3) or floats (3, H, W), got {got}")


def _channels_first(pixels: Tensor) -> Tensor:
    """(H, W), (H, W, C), (C, H, W) or a batch of one -> (1, C, H, W); if both fit, (C, H, W) for floats."""
    if pixels.ndim == 2:
        return pixels[None, None]
    one = pixels[None] if pixels.ndim == 3 else pixels
    if one.ndim == 4 and len(one) == 1:
        for dim in (1, -1) if pixels.is_floating_point() else (-1, 1):
            if one.shape[dim] in (1, 3, 4):
                return one.movedim(dim, 1)
    raise ValueError(
        f"image: expected uint8 (H, W, 3) or floats (3, H, W) in [0, 1], got {pixels.dtype} {tuple(pixels.shape)}"
    )


def _in_range(pixels: Tensor) -> Tensor:
    low, high = torch.stack(pixels.aminmax()).tolist()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also if there is a NaN
        raise ValueError(f"image: expected values from 0 to 1, got {low:.4g} to {high:.4g}")
    return pixels.clamp(0, 1)


def _to_floats(pixels: Tensor, device: torch.device | None) -> Tensor:
    """Convert to float32 in [0, 1]; for a GPU after an asynchronous copy of the uint8 pixels from pinned memory."""
    if device is not None and device.type == "cuda" and pixels.device.type == "cpu":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels / 255 if pixels.dtype == torch.uint8 else pixels.float()


def to_pixels(images: Tensor) -> Tensor:
    """Floats (B, 1 or 3, H, W) in [0, 1] -> uint8 (B, H, W, 3), RGB, on the same device."""
    # In place: fresh memory costs more than the arithmetic.
    pixels = images.float().mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()


def from_pixels(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> floats (B, 3, H, W) in [0, 1], on the same device."""
    return pixels.permute(0, 3, 1, 2) / 255


def to_uint8(images: Tensor) -> Image:
    """Floats (B, 1 or 3, H, W) in [0, 1] -> uint8 (B, H, W, 3), RGB."""
    return to_pixels(images).cpu().numpy()


def fetch(pixels: Tensor) -> Callable[[], Image]:
    """Start copying pixels to the host asynchronously; the returned function waits for the copy, in any thread."""
    if pixels.device.type != "cuda":
        copy = pixels.cpu().numpy()
        return lambda: copy
    host = torch.empty_like(pixels, device="cpu", pin_memory=True).copy_(pixels, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(pixels.device))

    def wait() -> Image:
        done.synchronize()
        return host.numpy()

    return wait


def write_image(
    path: str | Path, image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], *, generated: bool = False
) -> None:
    """Write a PNG: 8-bit color from uint8 (H, W, 3), or 16-bit gray from uint16 (H, W); state that it is generated."""
    info = png_info() if generated else None
    with whole_file(path) as part:
        PIL.Image.fromarray(np.ascontiguousarray(image)).save(part, "PNG", pnginfo=info)


def write_ply(path: str | Path, points: npt.NDArray[np.float32], colors: npt.NDArray[np.uint8]) -> None:
    """Write a colored point cloud as binary PLY.

    Args:
        path: ends in .ply by custom.
        points: (N, 3), x, y, z.
        colors: (N, 3), RGB.
    """
    fields = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(points), dtype=fields)
    for (name, _), column in zip(fields, (*points.T, *colors.T), strict=True):
        vertices[name] = column
    properties = [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties, "end_header", ""]
    with whole_file(path) as part:
        part.write_bytes("\n".join(header).encode() + vertices.tobytes())
