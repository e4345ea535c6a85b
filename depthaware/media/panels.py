"""Figures: images side by side with captions, heat maps, and files of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from .atomic import whole_file
from .provenance import png_info, xmp

Image = npt.NDArray[np.uint8]

# Anchors of the color map "inferno" (S. van der Walt and N. Smith, CC0): dark = 0, bright = 1, even in lightness.
_HEAT = np.array(
    [
        [0, 0, 4],
        [31, 12, 72],
        [85, 15, 109],
        [136, 34, 106],
        [186, 54, 85],
        [227, 89, 51],
        [249, 140, 10],
        [249, 201, 50],
        [252, 255, 164],
    ]
)


def heat_colors(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Color values in [0, 1] from black over red to light yellow: (...) -> (..., 3) in [0, 255]."""
    stops = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(values, stops, channel) for channel in _HEAT.T], axis=-1)


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize uint8 (H, W, 3) to `size` (h, w), bicubic with anti-aliasing; unchanged where the size already fits."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Pillow.fromarray(image).resize(size[::-1], Pillow.Resampling.BICUBIC))


def frame_size(shape: tuple[int, int], wanted: int | tuple[int, int] | None) -> tuple[int, int]:
    """Size (h, w) of an image of `shape` after a resize: given itself, or by its longer side."""
    if wanted is None or isinstance(wanted, tuple):
        return wanted or shape
    scale = wanted / max(shape)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def letterbox(image: Image, size: tuple[int, int]) -> Image:
    """Resize uint8 (H, W, 3) into `size` (h, w) without distortion, with black bars where the shapes differ."""
    down, across = size[0] / image.shape[0], size[1] / image.shape[1]
    inner = size
    if abs(down / across - 1) > 0.02:  # less is of rounding
        scale = min(down, across)
        inner = max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    bars = (top, size[0] - inner[0] - top), (left, size[1] - inner[1] - left), (0, 0)
    return np.pad(resize_image(image, inner), bars)


def text_line(width: int, texts: Sequence[tuple[int, str]], *, height: int = 20, font_size: int = 13) -> Image:
    """Black text on white, each text from its horizontal position on; text that is too long ends in an ellipsis.

    Args:
        width: of the line, in pixels.
        texts: positions in pixels, from left to right, and texts; each ends before the next begins.
        height: of the line, in pixels.
        font_size: in pixels.
    """
    line = Pillow.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(font_size)
    ends = [left for left, _ in texts[1:]] + [width]
    for (left, text), end in zip(texts, ends, strict=True):
        text = "".join(letter if letter.isprintable() else "?" for letter in text)  # undecodable or broken file names
        draw.text((left + 2, height // 2), _shorten(text, end - left - 4, font), "black", font, anchor="lm")
    return np.asarray(line)


def _shorten(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Replace the end of a text that is too wide by an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def visible_mark(size: tuple[int, int], text: str = "AI-generated") -> Callable[[Image], Image]:
    """Make the function that writes a text into the lower left corner of images of `size` (h, w), uint8 (H, W, 3)."""
    font_size = max(10, min(size) // 24)
    width = min(round(ImageFont.load_default(font_size).getlength(text)) + 6, size[1])
    label = text_line(width, [(0, text)], height=min(font_size + 6, size[0]), font_size=font_size)
    place = slice(size[0] - label.shape[0], None), slice(0, width)

    def mark(image: Image) -> Image:
        image = image.copy()
        image[place] = np.rint(0.3 * image[place] + 0.7 * label)
        return image

    return mark


def row(images: Sequence[Image], captions: Sequence[str] | None = None, *, gap: int = 6, font_size: int = 15) -> Image:
    """Put images of one height side by side on white, with a caption above each.

    Args:
        images: uint8 (H, W, 3), all of the same height.
        captions: as many; no line of text if None.
        gap: pixels between two images.
        font_size: in pixels.
    """
    white = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    line = np.hstack([part for image in images for part in (white, image)][1:])
    if captions is None:
        return line
    lefts = np.cumsum([0] + [image.shape[1] + gap for image in images[:-1]])
    texts = [(int(left), caption) for left, caption in zip(lefts, captions, strict=True)]
    return np.vstack([text_line(line.shape[1], texts, height=font_size + 8, font_size=font_size), line])


def column(rows: Sequence[Image], *, gap: int = 6) -> Image:
    """Stack images below each other on white, each filled up to the widest at its right."""
    width = max(image.shape[1] for image in rows)
    parts = [np.full((gap, width, 3), 255, np.uint8)] * (2 * len(rows) - 1)
    for i, image in enumerate(rows):
        fill = ((0, 0), (0, width - image.shape[1]), (0, 0))
        parts[2 * i] = np.pad(image, fill, constant_values=255)
    return np.vstack(parts)


def write_figure(path: str | Path, image: Image, *, generated: bool = False) -> None:
    """Write uint8 (H, W, 3) as PNG, JPEG or WebP, by the suffix of `path`; state that it is generated."""
    kind = {".png": "PNG", ".webp": "WEBP"}.get(Path(path).suffix.lower(), "JPEG")
    claim: dict[str, Any] = {}
    if generated:
        claim = {"pnginfo": png_info()} if kind == "PNG" else {"xmp": xmp()}
    with whole_file(path) as part:
        Pillow.fromarray(image).save(part, kind, quality=90, **claim)
