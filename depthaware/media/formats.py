"""File suffixes of images and videos, and the codecs of videos that are written."""

import re
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".jp2"),
    *(".ppm", ".pgm", ".tga"),
)
FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # that `panels.write_figure` writes
VIDEO_SUFFIXES = (  # of files that are taken for clips in a folder; a file that is named may have any other
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".flv", ".f4v", ".wmv", ".asf", ".ogv", ".mxf", ".gif", ".apng"),
)
CODECS = {  # of the videos that are written, the first is the default
    ".mp4": ("h264", "hevc", "av1"),
    ".mov": ("h264", "hevc", "prores"),
    ".webm": ("vp9", "av1"),
    ".gif": ("gif",),
    ".webp": ("webp",),
    ".png": ("png",),
}
OUTPUT_SUFFIXES = tuple(CODECS)
SILENT = (".gif", ".webp", ".png")
QUALITY = 75
"""Default quality of written videos, 1 to 100; H.264 has a CRF of 18 there."""

_ONE_QUALITY = ("gif", "png", "prores")


def is_pattern(path: str | Path) -> bool:
    """Return True for the name of a sequence of images, such as frames/%04d.png."""
    return re.fullmatch(r"[^%]*%0?\d*d[^%]*", Path(path).name) is not None


def choose_codec(path: str | Path, codec: str | None = None, quality: int | None = None) -> str:
    """Return the codec for a file of this name, the default one if None.

    Raises:
        ValueError: if files of this suffix have another one, or the quality is out of range or not to be chosen.
    """
    known = CODECS.get(Path(path).suffix.lower())
    if known is None:
        raise ValueError(f"output {str(path)!r}: expected a name that ends in {', '.join(CODECS)}")
    if known == ("png",) and not is_pattern(path):
        raise ValueError(
            f"output {str(path)!r}: expected a pattern for the names of its frames, such as frames/%04d.png"
        )
    codec = codec or known[0]
    if codec not in known:
        raise ValueError(f"output {str(path)!r}: expected a codec of {', '.join(known)}, got {codec}")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality: expected 1 to 100, got {quality}")
    if quality is not None and codec in _ONE_QUALITY:
        raise ValueError(f"output {str(path)!r}: {codec} has one quality, expected no other, got {quality}")
    return codec
