"""Share of faces that a detector finds when they are small, tilted and amid clutter, and its false alarms.

    python examples/benchmarks/measure_faces.py --data FACES

The folder holds images of one face each and videos whose first frame shows one, at any depth. Each is turned, reduced,
and pasted at a random place into an image of clutter. Then 100 images without a face are searched: photographs of
scikit-image, clutter, noise, and text.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import torch
from PIL import ImageDraw, ImageFilter, ImageFont
from skimage import data

import depthaware
from depthaware.faces import BlazeFaceDetector, FaceDetector
from depthaware.media.formats import IMAGE_SUFFIXES
from depthaware.media.image import Image, read_image, write_image
from depthaware.media.video import read_video
from depthaware.training.options import option, required, run_recipe

PHOTOGRAPHS = """brick chelsea clock coffee coins grass gravel hubble_deep_field immunohistochemistry moon page rocket
text retina horse cell microaneurysms"""


@dataclass(frozen=True)
class Options:
    """Faces, and the way they are hidden."""

    data: str = required("a folder of images and videos of one face each", "face crops of any data set will do")
    scale: float = option(0.25, "size of the pasted images relative to what they are")
    tilt: float = option(30.0, "largest angle by which they are turned, in degrees; the angles are -tilt, 0 and +tilt")
    size: tuple[int, int] = option((720, 1280), "height and width of the clutter in pixels")
    detector: Literal["blazeface", "dlib"] = option("blazeface", "detector that is measured")
    faceless: int = option(100, "number of images without a face")
    save: str = option("", "folder for the images on which the detector was wrong")
    seed: int = option(0, "seed of clutter, places and images without a face")


def faces_in(folder: Path) -> Iterator[tuple[Path, Image]]:
    """All images of a folder, and the first frame of all else that is a video."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path, read_image(path)
        elif path.suffix.lower() in (".mp4", ".mkv", ".webm", ".mov"):
            yield from ((path, frame.image) for frame in islice(read_video(path), 1))


def clutter(rng: np.random.Generator, height: int, width: int) -> PIL.Image.Image:
    """A gradient under 150 rectangles, ellipses, lines and words of random colors, with some noise."""
    image = gradient(rng, height, width)
    draw = ImageDraw.Draw(image)
    for _ in range(150):
        color = tuple(rng.integers(0, 256, 3).tolist())
        x, y = rng.integers(0, (width, height))
        w, h = rng.exponential(width / 20, 2) + 2
        shape = rng.integers(4)
        if shape == 0:
            draw.rectangle((x, y, x + w, y + h), color)
        elif shape == 1:
            draw.ellipse((x, y, x + w, y + h), color, tuple(rng.integers(0, 256, 3).tolist()), int(rng.integers(1, 8)))
        elif shape == 2:
            draw.line((x, y, x + 3 * w, y + 3 * h), color, int(rng.integers(1, 8)))
        else:
            draw.text((x, y), words(rng, 1), color, ImageFont.load_default(int(rng.integers(8, 60))))
    return noisy(rng, image, rng.uniform(0, 12))


def gradient(rng: np.random.Generator, height: int, width: int) -> PIL.Image.Image:
    """A smooth image: a few random colors, enlarged."""
    coarse = rng.integers(0, 256, (*rng.integers(2, 8, 2), 3)).astype(np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def noisy(rng: np.random.Generator, image: PIL.Image.Image, sigma: float) -> PIL.Image.Image:
    pixels = np.array(image) + rng.normal(0, sigma, (image.height, image.width, 3))
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def words(rng: np.random.Generator, lines: int) -> str:
    letters = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz    .,:;oO08()&@"), 60 * lines))
    return "\n".join(letters[60 * i : 60 * i + 60] for i in range(lines))


def faceless(rng: np.random.Generator, number: int) -> PIL.Image.Image:
    """A photograph, clutter, noise of some coarseness, or text, in turn, of random size."""
    height, width = (int(edge) for edge in rng.integers(128, 1400, 2))
    if number % 4 == 0:
        names = PHOTOGRAPHS.split()
        name = names[number // 4 % len(names)]
        photograph = PIL.Image.fromarray(np.asarray(getattr(data, name)()).astype(np.uint8)).convert("RGB")
        keep = rng.uniform(0.5, 1, 2)
        left, top = (rng.uniform(0, 1 - keep) * photograph.size).tolist()
        right, bottom = left + keep[0] * photograph.width, top + keep[1] * photograph.height
        scale = np.exp(rng.uniform(-0.7, 0.7))
        size = (int(keep[0] * photograph.width * scale), int(keep[1] * photograph.height * scale))
        return photograph.resize(size, PIL.Image.Resampling.BICUBIC, (left, top, right, bottom))
    if number % 4 == 1:
        return clutter(rng, height, width)
    if number % 4 == 2:
        blurred = noisy(rng, gradient(rng, height, width), 120).filter(ImageFilter.GaussianBlur(rng.exponential(6)))
        return PIL.Image.fromarray(np.interp(blurred, (np.min(blurred), np.max(blurred)), (0, 255)).astype(np.uint8))
    page = PIL.Image.new("RGB", (width, height), tuple(rng.integers(150, 256, 3).tolist()))
    font = ImageFont.load_default(int(rng.integers(8, 80)))
    ImageDraw.Draw(page).multiline_text((10, 10), words(rng, 60), tuple(rng.integers(0, 120, 3).tolist()), font)
    return page


def paste(rng: np.random.Generator, face: Image, tilt: float, options: Options) -> tuple[Image, tuple[float, ...]]:
    """Clutter with the face in it, and the center and side of the pasted image."""
    background = clutter(rng, *options.size)
    small = PIL.Image.fromarray(face)
    small = small.resize([max(1, round(options.scale * edge)) for edge in small.size], reducing_gap=2.0)
    turned = small.convert("RGBA").rotate(-tilt, PIL.Image.Resampling.BICUBIC, expand=True)
    left, top = (int(rng.integers(0, max(1, room))) for room in np.subtract(background.size, turned.size))
    background.paste(turned, (left, top), turned)
    return np.array(background), (left + turned.width / 2, top + turned.height / 2, max(small.size))


def make_detector(name: str) -> FaceDetector:
    if name == "dlib":
        from depthaware.faces import DlibFaceDetector

        return DlibFaceDetector()
    return BlazeFaceDetector()


def speed(detect: FaceDetector) -> float:
    """Median CPU time of one call on the bundled portrait of 256 pixels, in milliseconds."""
    image, times = read_image(Path(depthaware.__file__).parent / "assets" / "portrait.png"), []
    for _ in range(50):
        start = time.process_time()
        detect([image])
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1000


def main(options: Options) -> None:
    torch.set_num_threads(1)
    detect, rng = make_detector(options.detector), np.random.default_rng(options.seed)
    print(f"portrait of 256 pixels: {speed(detect):.1f} ms, one thread")
    found, alarms, total, seconds = 0, 0, 0, 0.0
    for path, face in faces_in(Path(options.data)):
        for tilt in (-options.tilt, 0, options.tilt):
            image, (x, y, side) = paste(rng, face, tilt, options)
            start = time.process_time()
            (faces,) = detect([image])
            seconds += time.process_time() - start
            middles = [((f.box[:2] + f.box[2:]) / 2, (f.box[2] - f.box[0]) / side) for f in faces]
            right = [max(abs(at - (x, y))) < side / 2 and 0.2 < share < 1.2 for at, share in middles]
            found, alarms, total = found + any(right), alarms + right.count(False), total + 1
            if not any(right) or not all(right):
                print(f"{path.name} turned by {tilt:g}: {'missed' if not any(right) else 'false alarm'}")
                keep(options, f"{path.stem}_{tilt:g}", image)
    if not total:
        raise ValueError(f"--data: expected a folder of images and videos, found none in {options.data}")
    print(f"found: {found} of {total} ({found / total:.1%}), {alarms} false alarms beside them")
    print(f"time of one thread: {seconds / total:.3f} s an image")
    wrong = 0
    for number in range(options.faceless):
        image = np.array(faceless(np.random.default_rng([options.seed, number]), number))
        if faces := detect([image])[0]:
            wrong += 1
            print(f"image {number} without a face: {len(faces)} found, score {max(f.score for f in faces):.2f}")
            keep(options, f"faceless_{number}", image)
    print(f"false alarms: {wrong} of {options.faceless} images without a face")


def keep(options: Options, name: str, image: Image) -> None:
    """Write an image for a look, if there is a folder for it."""
    if options.save:
        Path(options.save).mkdir(parents=True, exist_ok=True)
        write_image(Path(options.save, f"{name}.png"), image)


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
