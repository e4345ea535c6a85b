"""Raw videos below a folder, and who is in them: data sets say so by how they name their files."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ...media.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# The identity is what the brackets hold. Paths are those below the folder, without a suffix. In HDTF a number behind a
# politician's name counts the videos of that person, one behind Radio the guests of that show. In CelebV-HQ and
# CelebV-Text the numbers behind a YouTube id count clips, and nothing says which of them show the same person.
LAYOUTS = {
    "voxceleb": r"(?:.*/)?(id\d{5})[/#].+",
    "hdtf": r"(?:.*/)?(RD_Radio\d+|W[DR]A_[A-Za-z]+)\d*(?:_.*)?",
    "celebv": r"(?:.*/)?([\w-]{11})(?:_\d+){1,2}",
    "folders": r"([^/]+)(?:/.*)?",
}
ENOUGH = 0.9  # of the names follow a layout: then it is that one, and the others are strays


def find_raw(root: Path) -> list[str]:
    """Paths below `root` of all videos, and of all folders of frames, however deep; sorted, with forward slashes.

    Raises:
        ValueError: if there is no such folder, or none of either in it.
    """
    if not root.is_dir():
        raise ValueError(f"data {str(root)!r}: expected a folder of videos, there is none")
    found: list[Path] = []
    for place, folders, files in os.walk(root, followlinks=True, onerror=_stop):
        folders[:] = (name for name in folders if not name.startswith("."))
        visible = [Path(place, name) for name in files if not name.startswith(".")]
        videos = [path for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
        found += videos
        if not videos and Path(place) != root and sum(path.suffix.lower() in IMAGE_SUFFIXES for path in visible) > 1:
            found.append(Path(place))
    if not found:
        raise ValueError(f"data {str(root)!r}: holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no folders of frames")
    return sorted(path.relative_to(root).as_posix() for path in found)


def _stop(error: OSError) -> None:
    raise error


def choose_layout(sources: Iterable[str]) -> str:
    """The first layout that the names follow; "folders" suits all."""
    sources = list(sources)
    for layout in LAYOUTS:
        if sum(identity_of(source, layout) is not None for source in sources) >= ENOUGH * len(sources):
            return layout
    raise AssertionError("'folders' matches every path")


def identity_of(source: str, layout: str) -> str | None:
    """Who is in a video; None if its name does not follow the layout."""
    match = re.fullmatch(LAYOUTS[layout], _stem(source))
    return match[1] if match else None


def split_of(identity: str, test_share: float) -> str:
    """A person's split depends on nothing but the name and the share, so that later videos move nobody."""
    return "test" if int(_digest(identity)[:8], 16) < test_share * 2**32 else "train"


def clip_prefix(source: str) -> str:
    """A file name that no other source has; without dots, where the keys of WebDataset end."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", _stem(source)).strip("_")
    return f"{readable[-60:]}_{_digest(source)[:8]}"


def _stem(source: str) -> str:
    path = PurePosixPath(source)
    return str(path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
