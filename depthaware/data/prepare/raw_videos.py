"""Raw videos below a folder, and the identities that their file names tell."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ...media.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# The group is the identity. Paths are relative to the folder, without the suffix. In HDTF a number after a politician's
# name counts the videos of that person, one after Radio the guests of that show. In CelebV-HQ and CelebV-Text the
# numbers after a YouTube id count clips, and nothing tells which of them show the same person.
LAYOUTS = {
    "voxceleb": r"(?:.*/)?(id\d{5})[/#].+",
    "hdtf": r"(?:.*/)?(RD_Radio\d+|W[DR]A_[A-Za-z]+)\d*(?:_.*)?",
    "celebv": r"(?:.*/)?([\w-]{11})(?:_\d+){1,2}",
    "folders": r"([^/]+)(?:/.*)?",
}
MAJORITY = 0.9  # share of names that must follow a layout; the others are strays


def find_raw(root: Path) -> list[str]:
    """Find all videos, and all folders of frames, below a folder.

    Returns:
        Paths relative to `root`, sorted, with forward slashes.

    Raises:
        ValueError: if there is no such folder, or nothing in it.
    """
    if not root.is_dir():
        raise ValueError(f"data {str(root)!r}: expected a folder of videos, there is none")
    found: list[Path] = []
    for place, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        folders[:] = (name for name in folders if not name.startswith("."))
        visible = [Path(place, name) for name in files if not name.startswith(".")]
        videos = [path for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
        found += videos
        if not videos and Path(place) != root and sum(path.suffix.lower() in IMAGE_SUFFIXES for path in visible) > 1:
            found.append(Path(place))
    if not found:
        raise ValueError(f"data {str(root)!r}: holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no folders of frames")
    return sorted(path.relative_to(root).as_posix() for path in found)


def _raise(error: OSError) -> None:
    raise error


def choose_layout(sources: Iterable[str]) -> str:
    """Return the first of `LAYOUTS` that most of the names follow; "folders" fits all."""
    sources = list(sources)
    for layout in LAYOUTS:
        if sum(identity_of(source, layout) is not None for source in sources) >= MAJORITY * len(sources):
            return layout
    raise AssertionError("'folders' matches every path")


def identity_of(source: str, layout: str) -> str | None:
    """Identity of the person in a video, or None if its name does not follow the layout."""
    match = re.fullmatch(LAYOUTS[layout], _stem(source))
    return match[1] if match else None


def split_of(identity: str, test_share: float) -> str:
    """Assign an identity to "train" or "test" by a hash of its name.

    The split depends on name and share alone, so adding videos moves no identity, and a larger share only adds
    identities to the test split.

    Args:
        identity: any text.
        test_share: expected share of identities in the test split, in [0, 1].
    """
    return "test" if int(_digest(identity)[:8], 16) < test_share * 2**32 else "train"


def clip_prefix(source: str) -> str:
    """Unique file name prefix for the clips of a source; without dots, at which the keys of WebDataset end."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", _stem(source)).strip("_")
    return f"{readable[-60:]}_{_digest(source)[:8]}"


def _stem(source: str) -> str:
    path = PurePosixPath(source)
    return str(path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
