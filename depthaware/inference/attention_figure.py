"""Figure of attention maps: the images with numbered query points, and a heat map for each."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..media.image import Image
from ..media.panels import column, heat_colors, resize_image, row
from .attention_maps import AttentionMaps

_SIDE, _COLUMNS = 256, 5  # smallest side of a panel in pixels, heat maps in a row


def draw_attention(maps: AttentionMaps, *, over: Literal["source", "result"] = "source") -> Image:
    """Draw the images with the numbered query points, and below them a heat map for each query.

    Each map has its own range of colors, from 0 to its largest weight, which its caption gives. The color bar gives the
    weight of every position if the attention were even, 1 / (h w), for comparison.

    Args:
        maps: from `attention_maps`.
        over: image under the heat maps, which decides between `on_source` and `on_result`.

    Returns:
        uint8 (height, width, 3).
    """
    side = max(_SIDE, len(maps.source))
    scale = side / len(maps.source)
    points = (maps.points + 0.5) * scale - 0.5
    under, weights = (maps.source, maps.on_source) if over == "source" else (maps.result, maps.on_result)
    panels, captions = [], []
    for number, (point, weight) in enumerate(zip(points, weights, strict=True), start=1):
        panels.append(_mark(_heat(resize_image(under, (side, side)), weight), {number: point}))
        captions.append(f"{number}: weights up to {weight.max():.2g}")
    images = [resize_image(image, (side, side)) for image in (maps.source, maps.driving, maps.result)]
    images[0] = _mark(images[0], dict(enumerate(points, start=1)))
    images.append(_color_bar(side, weights.shape[1:]))
    rows = [row(images, ["source and query points", "driving", f"result (gate {maps.gate:.3g})", "weight"])]
    starts = range(0, len(panels), _COLUMNS)
    rows += [row(panels[i : i + _COLUMNS], captions[i : i + _COLUMNS]) for i in starts]
    return column(rows)


def draw_heat_map(maps: AttentionMaps, index: int, *, side: int = 512) -> Image:
    """Draw the heat map of one query over the source, with the query point.

    Args:
        maps: from `attention_maps`.
        index: of the query.
        side: of the map in pixels.

    Returns:
        uint8 (side, side, 3).
    """
    point = (maps.points[index] + 0.5) * (side / len(maps.source)) - 0.5
    return _mark(_heat(resize_image(maps.source, (side, side)), maps.on_source[index]), {index + 1: point})


def _heat(image: Image, weights: npt.NDArray[np.float32]) -> Image:
    """Lay weights (h, w) as colors over the image in gray; the more weight, the less of the image shines through."""
    scaled = Pillow.fromarray(weights / max(weights.max(), np.float32(1e-12)))
    strength = np.asarray(scaled.resize(image.shape[1::-1], Pillow.Resampling.BILINEAR))[..., None]
    gray = image.mean(axis=-1, keepdims=True) * 0.6
    cover = np.sqrt(strength) * 0.85
    return np.rint(gray * (1 - cover) + heat_colors(strength[..., 0]) * cover).astype(np.uint8)


def _color_bar(side: int, size: tuple[int, ...]) -> Image:
    """Panel with the scale of the heat maps of h x w positions."""
    bar = Pillow.new("RGB", (side, side), "white")
    colors = heat_colors(np.linspace(1, 0, side))[:, None].repeat(20, axis=1)
    bar.paste(Pillow.fromarray(np.rint(colors).astype(np.uint8)))
    draw, font = ImageDraw.Draw(bar), ImageFont.load_default(15)
    even = f"{size[0]} x {size[1]} positions,\neven weight {1 / (size[0] * size[1]):.2g}"
    for y, text, anchor in ((2, "largest of each map", "la"), (side // 2, even, "lm"), (side - 2, "0", "ld")):
        draw.text((28, y), text, "black", font, anchor)
    return np.asarray(bar)


def _mark(image: Image, points: dict[int, npt.NDArray[np.float32]]) -> Image:
    """Draw a ring and the number at each point (x, y) in pixels."""
    drawn = Pillow.fromarray(image)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(15)
    center = np.median([x for x, _ in points.values()])
    for number, (x, y) in points.items():
        for radius, color in ((6, "black"), (5, "white"), (3, "black")):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=1)
        left = 20 < x < center or x > drawn.width - 20  # away from the other points, but within the image
        anchor, offset = ("rm", -9) if left else ("lm", 9)
        draw.text((x + offset, y), str(number), "white", font, anchor, stroke_width=2, stroke_fill="black")
    return np.asarray(drawn)
