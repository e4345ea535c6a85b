"""Animate composites of free photos whole, and their faces cropped by hand, and compare.

    python examples/benchmarks/measure_paste.py [FOLDER]

The bundled portrait, or the bundled driving video, is put into photos: off-center, small, tilted, several times, at the
borders. For each composite it prints the mean distance of the face's points in the two results, in sides of the face's
box; how far the points move; the mean difference of the pixels on both sides of the border of the pasted square, beyond
that of the untouched image, in gray levels; and the milliseconds to paste a frame. FOLDER receives a frame of each.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from skimage import data

from depthaware import DaGAN, animate, optimize, read_image, read_video
from depthaware.faces import BlazeFaceDetector
from depthaware.faces.crop import Crop
from depthaware.inference import AnimateOptions, Animator
from depthaware.media.image import Image

MEDIA = Path(__file__).parents[2] / "depthaware" / "assets"
PORTRAIT = read_image(MEDIA / "portrait.png")
DRIVING = [frame.image for frame in read_video(MEDIA / "driving.mp4")][::12]
LANCZOS = PIL.Image.Resampling.LANCZOS
Place = tuple[float, float, float, float]
"""x and y of the center as shares of the image, side over the shorter side of the image, tilt in degrees."""


class Composite(NamedTuple):
    """An image to animate and a driving video, with the squares in which their faces lie."""

    name: str
    source: Image
    squares: list[Crop]
    driving: list[Image] = DRIVING
    driving_square: Crop = Crop((127.5, 127.5), 256)


def put(face: Image, name: str, size: tuple[int, int], *places: Place) -> tuple[Image, list[Crop]]:
    """Paste a square image into a photo without faces."""
    image = PIL.Image.fromarray(getattr(data, name)()).resize(size, LANCZOS)
    squares = []
    for x, y, side, degrees in places:
        pixels = round(side * min(size))
        square = PIL.Image.fromarray(face).resize((pixels, pixels), LANCZOS).convert("RGBA")
        turned = square.rotate(-degrees, PIL.Image.Resampling.BICUBIC, expand=True)
        corner = round(x * size[0] - turned.width / 2), round(y * size[1] - turned.height / 2)
        image.paste(turned, corner, turned)
        center = tuple(start + (length - 1) / 2 for start, length in zip(corner, turned.size, strict=True))
        squares.append(Crop(center, pixels, np.radians(degrees)))
    return np.array(image), squares


def composites() -> Iterator[Composite]:
    wide, tall, places = (1280, 720), (720, 1280), {
        "left": (0.25, 0.5, 0.6, 0), "right": (0.8, 0.45, 0.5, 0), "corner": (0.2, 0.75, 0.45, 0),
        "large": (0.6, 0.5, 0.95, 0), "small 140": (0.7, 0.3, 0.195, 0), "small 110": (0.3, 0.6, 0.153, 0),
        "small 80": (0.5, 0.5, 0.111, 0), "tilted 10": (0.4, 0.5, 0.5, 10), "tilted -20": (0.6, 0.5, 0.5, -20),
        "tilted 30": (0.4, 0.5, 0.6, 30), "tilted -30": (0.7, 0.5, 0.4, -30),
        "left border": (0.1, 0.5, 0.6, 0), "right border": (0.93, 0.5, 0.5, 0), "bottom border": (0.5, 0.85, 0.6, 0),
        "top border": (0.4, 0.22, 0.6, 0),
    }  # fmt: skip
    photos = ["coffee", "rocket", "chelsea", "hubble_deep_field"]
    for index, (name, place) in enumerate(places.items()):
        yield Composite(name, *put(PORTRAIT, photos[index % 4], wide, place))
    yield Composite("tall", *put(PORTRAIT, "rocket", tall, (0.5, 0.3, 0.6, 0)))
    yield Composite("tall, low", *put(PORTRAIT, "coffee", tall, (0.3, 0.8, 0.5, 0)))
    yield Composite("4000 pixels", *put(PORTRAIT, "coffee", (4000, 3000), (0.3, 0.4, 0.4, 0)))
    yield Composite("4000 pixels, tall", *put(PORTRAIT, "chelsea", (3000, 4000), (0.6, 0.3, 0.3, 0)))
    two, three = (
        ((0.2, 0.5, 0.6, 0), (0.7, 0.45, 0.5, 0)),
        ((0.15, 0.5, 0.4, 0), (0.5, 0.4, 0.5, 8), (0.85, 0.6, 0.3, -8)),
    )
    yield Composite("two", *put(PORTRAIT, "coffee", wide, *two))
    yield Composite("three", *put(PORTRAIT, "rocket", wide, *three))
    yield Composite("two, close", *put(PORTRAIT, "coffee", wide, (0.35, 0.5, 0.6, 0), (0.62, 0.5, 0.6, 0)))
    image, squares = put(PORTRAIT, "coffee", wide, places["left"])
    yield Composite("gray", image.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8), squares)
    yield Composite("posterized", np.asarray(PIL.ImageOps.posterize(PIL.Image.fromarray(image), 3)), squares)
    yield Composite("dark", (image * 0.35).astype(np.uint8), squares)
    yield Composite("astronaut, whole", data.astronaut(), [Crop((223.5, 123.5), 256)])
    whole = Crop((127.5, 127.5), 256)
    for name in ("left", "corner", "small 140", "right border"):
        frames = [put(frame, "coffee", wide, places[name]) for frame in DRIVING]
        yield Composite(f"driving, {name}", PORTRAIT, [whole], [f for f, _ in frames], frames[0][1][0])


def by_hand(model: DaGAN, item: Composite, square: Crop) -> list[Image]:
    """Animate a face cropped where it was put."""
    driving = [item.driving_square.read(frame, model.image_size) for frame in item.driving]
    source = square.read(item.source, model.image_size)
    return [frame.image for frame in animate(model, source, driving, fit="crop", initial_frame=0)]


def points(detector: BlazeFaceDetector, images: list[Image]) -> np.ndarray:
    """Six points of the largest face of each image, (n, 6, 2), in sides of its box; NaN without a face."""
    found = [faces[0] if faces else None for faces in detector(images)]
    return np.array([np.full((6, 2), np.nan) if f is None else f.points / (f.box[2] - f.box[0]) for f in found])


def across(image: Image, crop: Crop) -> float:
    """Mean difference of the pixels on both sides of the border of a square, where it lies in the image."""
    along = np.linspace(-0.5, 0.5, max(int(crop.side), 2))
    total = []
    for axis in (0, 1):
        for sign in (-0.5, 0.5):
            ends = []
            for step in (-0.5, 0.5):
                line = np.empty((len(along), 2))
                line[:, axis], line[:, 1 - axis] = sign + step / crop.side, along
                ends.append(np.rint(crop.to_image(line, 1)).astype(int))
            size = np.array(image.shape[1::-1])
            inside = np.all([(end >= 0) & (end < size) for end in ends], axis=(0, 2))
            a, b = (image[end[inside, 1], end[inside, 0]].astype(float) for end in ends)
            total.append(abs(a - b).ravel())
    values = np.concatenate(total)
    return float(values.mean()) if len(values) else 0.0


def measure(model: DaGAN, item: Composite, detector: BlazeFaceDetector, folder: Path | None) -> list[list[float]]:
    options = AnimateOptions(initial_frame=0, scenes=False, face="all" if len(item.squares) > 1 else "largest")
    animator = Animator(model, item.source, options)
    results, spent = [], 0.0
    for batch in animator.read(item.driving):
        made = animator.animate(batch).unflatten(0, (len(batch), -1))
        for squares in (made * 255).round().byte().permute(0, 1, 3, 4, 2).numpy():
            start = time.process_time()
            results.append(animator.source.output(list(squares)))
            spent += time.process_time() - start
    if folder:
        PIL.Image.fromarray(results[len(results) // 2]).save(folder / f"{item.name.replace(' ', '_')}.jpg", quality=92)
    scale = len(results[0]) / len(item.source)
    photo, rows = animator.source.photo, []
    for square in item.squares:
        ours = points(detector, [square.scaled(scale).read(frame, model.image_size) for frame in results])
        hand = points(detector, by_hand(model, item, square))
        distance = np.nanmean(np.linalg.norm(ours - hand, axis=-1))
        moved, expected = (np.nanmean(np.nanstd(p, axis=0)) for p in (ours, hand))
        crops = [crop.scaled(scale) for crop in animator.source.crops]
        seam = max(across(frame, crop) - across(photo, crop) for frame in results for crop in crops)
        rows.append([100 * distance, 100 * moved, 100 * expected, seam, spent / len(results) * 1000])
    return rows


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    model, detector = optimize(DaGAN.from_pretrained("dagan-tiny")), BlazeFaceDetector()
    print(f"{'':26}{'apart %':>10}{'moved %':>10}{'by hand %':>10}{'seam':>8}{'paste ms':>10}")
    for item in composites():
        if len(sys.argv) > 2 and not any(w in item.name for w in sys.argv[2:]):
            continue
        for row in measure(model, item, detector, folder):
            print(f"{item.name:26}{row[0]:10.1f}{row[1]:10.1f}{row[2]:10.1f}{row[3]:8.2f}{row[4]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
