"""Still images, read by Pillow: every color space, depth and orientation becomes upright 8-bit sRGB over white."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import ImageCms
from PIL.Image import Transpose

from .._optional import require
from .memory import needing_memory
from .signatures import found_in, refusal

Image = npt.NDArray[np.uint8]

# Pillow knows more, among them formats that run Ghostscript, or that hold a file of any other format.
_FORMATS: tuple[str, ...] = (
    *("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM"),
    *("ICO", "ICNS", "PSD", "QOI", "SGI", "PCX", "DDS"),
)
_ORIENTATION = 0x112  # of EXIF: how the stored image must be turned
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Tags of TIFF.
_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR, _SUB_IFDS, _DNG_VERSION = 254, 258, 262, 284, 330, 50706


def read_image(path: str | Path) -> Image:
    """Read an image file, whatever its suffix: upright, converted to sRGB, transparency laid over white.

    PNG, JPEG, WebP, AVIF, HEIC (with the extra `heic`), TIFF, BMP, GIF, JPEG 2000, PPM, TGA, ICO, PSD and others that
    Pillow reads. Of an animation the first frame is read, of a TIFF the first page, and a warning says so.

    Returns:
        (H, W, 3), RGB.

    Raises:
        ValueError: if the file is no image, damaged, cut short, or beyond Pillow's limit for decompression bombs.
        ImportError: if it is HEIC, and pillow-heif is not installed.
    """
    with open_still(path) as image:
        pixels = to_srgb(image, str(path))
        if _has_more(image, path):
            first = "has several pages, the first" if image.format == "TIFF" else "is animated, its first frame"
            warnings.warn(f"{path}: {first} is taken", stacklevel=2)
        return pixels


def is_still(path: str | Path) -> bool:
    """Return True for a file with a single image, False for videos, animations and anything else."""
    try:
        with open_still(path) as image:
            return image.format == "TIFF" or not _has_more(image, path)
    except ValueError:
        return found_in(path).endswith("image")  # damaged


def _has_more(image: PIL.Image.Image, path: str | Path) -> bool:
    """Return True for several frames or pages, as opposed to layers, sizes, and the views of a stereo camera."""
    with _decoding(path):
        return image.format in ("PNG", "GIF", "WEBP", "AVIF", "TIFF") and getattr(image, "n_frames", 1) > 1


@contextmanager
def _decoding(name: str | Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise nearly any type
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name}: is damaged or cut short ({reason})") from error


@contextmanager
def open_still(path: str | Path) -> Iterator[PIL.Image.Image]:
    """Open an image file without decoding it; raise one line that names it if it is none."""
    found = found_in(path)
    if found == "a pipe or device":
        raise ValueError(f"{path}: {refusal(found)}")
    with open(path, "rb") as file:
        try:
            image = _open(file, path, found)
        except (ImportError, MemoryError):
            raise
        except PIL.Image.DecompressionBombError as error:
            pixels, limit = re.findall(r"\d+", str(error))[:2]
            raise ValueError(f"{path}: has {pixels} pixels, expected at most {limit}") from error
        except Exception as error:  # as below
            raise ValueError(f"{path}: {refusal(found)}") from error
        if image.format == "TIFF":
            _check_tiff(image, path)
        yield image


def _open(file: BinaryIO, path: str | Path, found: str) -> PIL.Image.Image:
    formats = _FORMATS
    if Path(path).suffix.lower() == ".tga":  # which has no signature: other files may look like it
        formats += ("TGA",)
    if found == "a HEIC image":
        try:
            require("pillow_heif", "heic").register_heif_opener()
        except ImportError as error:
            raise ImportError(f"{path}: is {found}, {error}") from error
        formats = ("HEIF",)
    return PIL.Image.open(file, formats=formats)


def _check_tiff(image: Any, path: str | Path) -> None:
    """Go to the first page that is no thumbnail; refuse what Pillow reads wrong."""
    tags = image.tag_v2
    if _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in tags):  # Pillow sees a small preview
        raise ValueError(f"{path}: {refusal('a raw photo of a camera')}")
    if tags.get(_PLANAR) == 2 and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8:
        raise ValueError(f"{path}: is a TIFF image with 16-bit colors in separate planes, expected 8 bits or one plane")
    if tags.get(_SUBFILE_TYPE, 0) & 1:
        with _decoding(path):
            while image.tag_v2.get(_SUBFILE_TYPE, 0) & 1 and image.tell() + 1 < image.n_frames:
                image.seek(image.tell() + 1)


def to_srgb(image: PIL.Image.Image, name: str = "image") -> Image:
    """Convert an image of any mode.

    Args:
        image: with its EXIF orientation and color profile, if any, in `image.info`.
        name: at the beginning of errors and warnings.

    Returns:
        (H, W, 3), RGB, upright, transparency laid over white.

    Raises:
        ValueError: if it cannot be decoded, or has values of a range that cannot be told.
    """
    with needing_memory(f"{name}: an image of {image.width} x {image.height} pixels"):
        with _decoding(name):
            image.load()
            turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        color, alpha = _split(_to_8_bits(image, name))
        color = _to_rgb(color, image.info.get("icc_profile"), name)
        if alpha is not None:
            color = PIL.Image.composite(color, PIL.Image.new("RGB", color.size, "white"), alpha)
        return np.array(color if turn is None else color.transpose(turn))


def _to_8_bits(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Convert gray of more than 8 bits; colors of more than 8 bits Pillow has converted already."""
    if not image.mode.startswith(("I", "F")):
        return image.convert("L") if image.mode == "1" else image
    values = np.asarray(image)
    low, high = values.min(), values.max()
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    tops = (1, 255) if image.mode == "F" else (2 ** min(bits, 16) - 1,)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:  # also if there is a NaN
        expected = " or ".join(f"0 to {top}" for top in tops)
        raise ValueError(f"{name}: has gray values from {low:.4g} to {high:.4g}, expected {expected}")
    if image.mode == "F":
        levels = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    else:
        levels = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)[values]  # no floats as large as the image
    gray = PIL.Image.fromarray(255 - levels if tags.get(_PHOTOMETRIC) == 0 else levels)  # white is 0
    if "transparency" in image.info:
        gray.putalpha(PIL.Image.fromarray(values != image.info["transparency"]).convert("L"))
    return gray


def _split(image: PIL.Image.Image) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    """Split into colors and opacity."""
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA", "RGBa", "RGBX"):
        image = image.convert("RGBA" if transparent else "RGB")
    alpha = image.convert("RGBA").getchannel("A") if transparent else None
    return image.convert({"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)), alpha


def _to_rgb(image: PIL.Image.Image, profile: bytes | None, name: str) -> PIL.Image.Image:
    try:
        if profile:
            mode, transform = _transform(profile)
            if (mode, image.mode) == ("RGB", "L"):
                image = image.convert("RGB")
            if mode != image.mode:
                raise ValueError(f"it is for {mode}, the image is {image.mode}")
            return transform(image)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"{name}: its color profile is ignored: {error}", stacklevel=4)
    return image.convert("RGB")


@lru_cache(maxsize=8)  # the frames of a folder have the same one
def _transform(profile: bytes) -> tuple[str, Callable[[PIL.Image.Image], PIL.Image.Image]]:
    """Mode of the images that a color profile is for, and their transform to sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = {"GRAY": "L", "Lab": "LAB"}.get(space, space)
    return mode, ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB").apply
