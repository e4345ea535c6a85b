"""Images numbered in a folder, taken for the frames of a video."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .formats import IMAGE_SUFFIXES


def find_images(path: Path) -> tuple[Path, ...]:
    """Find the image files in a folder or matching a pattern (``%04d.png``, ``*.png``); none if `path` is neither.

    Returns:
        Their paths in natural order (2 before 10).

    Raises:
        ValueError: if there are none, or images of one name and two suffixes, so that each frame would come twice.
    """
    if path.is_file():
        return ()
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    elif counter := re.search(r"%0?\d*d", path.name):
        before, after = path.name[: counter.start()], path.name[counter.end() :]
        name = re.compile(re.escape(before) + r"\d+" + re.escape(after))
        found = [file for file in path.parent.glob("*") if name.fullmatch(file.name)]
    elif set(path.name) & set("*?["):
        found = list(path.parent.glob(path.name))
        # File managers leave lists of thumbnails.
        found = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES] or found
    else:
        return ()
    # macOS puts a hidden ._1.png beside 1.png.
    found = [file for file in found if file.is_file() and not file.name.startswith(".")]
    if not found:
        raise ValueError(f"{path}: found no images ({', '.join(IMAGE_SUFFIXES)})")
    _refuse_twins(path, found)
    return tuple(
        sorted(found, key=lambda file: [int(s) if s.isdecimal() else s for s in re.split(r"(\d+)", file.name)])
    )


def _refuse_twins(path: Path, images: Sequence[Path]) -> None:
    by_name = defaultdict(list)
    for image in sorted(images):
        by_name[image.stem].append(image)
    twins = [files for files in by_name.values() if len(files) > 1]
    if twins:
        names = " and ".join(file.name for file in twins[0])
        patterns = " or ".join(str(file.with_stem("*")) for file in twins[0])
        raise ValueError(f"{path}: has {len(twins)} frames twice, such as {names}; choose by a pattern: {patterns}")
