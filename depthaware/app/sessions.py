"""State of the visitors of the page, each apart from the others."""

import shutil
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference.animator import Animator


class Session:
    """One visitor: files, a live view, and whether its work is to stop.

    Args:
        folder: for the results, made when needed and removed by `close`.

    Attributes:
        lock: held while the live view is used.
        animator: of the live view.
        photo: path of the photo that `animator` moves.
        stopped: set to end a running video.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.animator: Animator | None = None
        self.photo = ""

    def new_folder(self, name: str) -> Path:
        """Make an empty folder for the results of one run; those of earlier runs go."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def close(self) -> None:
        """Stop what runs and remove the files."""
        self.stopped.set()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """Sessions by the key of the visitor.

    Args:
        root: folder of their files.
        most: sessions that are kept; the one that was used least recently goes first.
    """

    def __init__(self, root: Path, most: int = 100) -> None:
        self.root, self.most = root, most
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()

    def __call__(self, key: str) -> Session:
        """Find the session of a visitor, or begin it."""
        with self._lock:
            session = self._known.setdefault(key, Session(self.root / f"session-{key}"))
            self._known.move_to_end(key)
            gone = [self._known.popitem(last=False)[1] for _ in range(len(self._known) - self.most)]
        for old in gone:
            old.close()
        return session

    def __len__(self) -> int:
        return len(self._known)

    def forget(self, key: str) -> None:
        """End the session of a visitor who left."""
        with self._lock:
            session = self._known.pop(key, None)
        if session:
            session.close()
