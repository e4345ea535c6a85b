"""What is done already, on disk: a line for each pair, which outlives kill -9, a full disk and a second process."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..media.atomic import whole_file
from .pairs import Pair
from .run import PREDICTIONS, Result

OPTIONS, PAIRS = "options.json", "pairs.csv"


class Row(NamedTuple):
    """A line of pairs.csv: the number of the pair in the list, and its result."""

    number: int
    result: Result


def open_report(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of a report, or go on with it if it was begun with the same settings.

    Raises:
        ValueError: if the folder holds another report, or something else.
    """
    path = folder / OPTIONS
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {str(folder)!r}: is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    # Looked at before the options, which come first: another process may just be making this very report.
    strange = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if not path.exists():
        if strange:
            raise ValueError(f"output {str(folder)!r}: expected an empty folder or a report, found {strange[0]}")
        with whole_file(path) as part, open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(settings, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(folder)
        _sync_folder(folder.parent)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    for key, now in settings.items():
        if before.get(key) != now:
            raise ValueError(
                f"output {str(folder)!r}: was begun with {key} {_show(before.get(key))}, not {_show(now)}; "
                f"expected the same or another folder"
            )


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; not where that cannot be done, as on Windows or in a folder of others."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 40 else f"{text[:12]}..."


class ResultsLog:
    """pairs.csv, and pairs.N.csv of the processes that share the work.

    Args:
        folder: of the report.
        pairs: all of them, of all processes.
        metrics: names, in the order of the scores.
        shard: number of this process if there are several, else None.
    """

    def __init__(self, folder: Path, pairs: Sequence[Pair], metrics: Sequence[str], shard: int | None = None) -> None:
        self.folder, self.pairs = folder, pairs
        scores = [f"{prediction}_{metric}" for prediction in PREDICTIONS for metric in metrics]
        self.columns = ["pair", *Pair._fields, *scores, "failure"]
        self.path = folder / (PAIRS if shard is None else f"pairs.{shard}.csv")
        self._done: set[int] = set()
        self._drop_half_a_line()
        self.look()

    def _drop_half_a_line(self) -> None:
        whole = 0
        if self.path.exists():
            with self.path.open("rb") as lines:
                whole = sum(len(line) for line in lines if line.endswith(b"\n"))
        if whole:
            os.truncate(self.path, whole)
        else:
            with whole_file(self.path) as part:
                part.write_bytes(_line(self.columns))
            _sync_folder(self.folder)  # the lines are synced, and need their file's name

    def look(self) -> None:
        """See what is done, by other processes too."""
        with ExitStack() as stack:
            self._done |= self._find(stack).keys()

    def _find(self, stack: ExitStack) -> dict[int, tuple[BinaryIO, int]]:
        """Where the whole line of each pair is."""
        found: dict[int, tuple[BinaryIO, int]] = {}
        for path in (self.folder / PAIRS, *sorted(self.folder.glob("pairs.*.csv"))):
            if path.exists():
                file, place = stack.enter_context(path.open("rb")), 0
                for line in file:
                    cells = _cells(line)
                    if line.endswith(b"\n") and len(cells) == len(self.columns) and cells[0].isdecimal():
                        found.setdefault(int(cells[0]), (file, place))
                    place += len(line)
        return found

    @property
    def is_complete(self) -> bool:
        """Whether every pair has a line."""
        return len(self._done) == len(self.pairs)

    def __contains__(self, index: object) -> bool:
        return index in self._done

    def __len__(self) -> int:
        return len(self._done)

    def append(self, indices: Sequence[int], results: Sequence[Result]) -> None:
        """Add lines; they are on the disk when this returns."""
        empty = [""] * (len(self.columns) - len(Pair._fields) - 2)
        lines = b"".join(
            _line([i, *pair, *([_number(x) for row in scores for x in row] or empty), failure])
            for i, (pair, scores, failure) in zip(indices, results, strict=True)
        )
        try:
            with open(self.path, "ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._done.update(indices)

    def merge(self) -> None:
        """Write pairs.csv with the lines of all processes, in the order of the pairs."""
        with ExitStack() as stack, whole_file(self.folder / PAIRS) as part, open(part, "wb") as merged:
            places = self._find(stack)  # in open files, so that it does not matter if another process does the same
            merged.write(_line(self.columns))
            for number in range(len(self.pairs)):
                file, place = places[number]
                file.seek(place)
                merged.write(file.readline())
            merged.flush()
            os.fsync(merged.fileno())  # its name must not come before its content

    def __iter__(self) -> Iterator[Row]:
        """The lines of pairs.csv, after `merge`."""
        with open(self.folder / PAIRS, "rb") as lines:
            next(lines)
            for number, line in enumerate(lines):
                *values, failure = _cells(line)[1 + len(Pair._fields) :]
                numbers = [float(value) if value else math.nan for value in values]
                width = len(numbers) // len(PREDICTIONS)
                scores = tuple(tuple(numbers[start : start + width]) for start in range(0, len(numbers), width))
                yield Row(number, Result(self.pairs[number], () if failure else scores, failure))


def _line(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cells(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", "surrogateescape")]), [])
    except csv.Error:
        return []


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.7g}"
