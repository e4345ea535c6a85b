"""Crash-safe log of results: one line per pair, shared by several processes."""

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
from ..media.resume import check_same_options
from .pairs import Pair
from .run import PREDICTIONS, Result

OPTIONS, PAIRS = "options.json", "pairs.csv"


class Row(NamedTuple):
    """Line of pairs.csv: number of the pair in the list, and its result."""

    number: int
    result: Result


def open_report(folder: Path, settings: dict[str, Any]) -> None:
    """Create the folder of a report, or resume it if it was created with the same settings.

    Raises:
        ValueError: if the folder holds a report with other settings, or other files.
    """
    path = folder / OPTIONS
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {str(folder)!r}: is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    # Listed before options.json is tested, which is written first: another process may be creating this same report.
    present = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if not path.exists():
        if present:
            raise ValueError(f"output {str(folder)!r}: expected an empty folder or a report, found {present[0]}")
        with whole_file(path) as part:
            part.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        _sync_folder(folder)
        _sync_folder(folder.parent)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    check_same_options(f"output {str(folder)!r}", before, settings)


def _sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk; skipped where that is impossible, as on Windows or without permission."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class ResultsLog:
    """Results on disk: pairs.csv, and one pairs.N.csv for each process that shares the work.

    Lines survive `kill -9` and a full disk: `append` syncs them, and an incomplete last line is dropped on opening.

    Args:
        folder: of the report.
        pairs: all pairs of all processes.
        metrics: names, in the order of the scores.
        rows: names of the rows of each result.
        shard: number of this process if there are several, else None.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Sequence[Pair],
        metrics: Sequence[str],
        *,
        rows: Sequence[str] = PREDICTIONS,
        shard: int | None = None,
    ) -> None:
        self.folder, self.pairs, self.rows = folder, pairs, rows
        scores = [f"{row.replace(' ', '_')}_{metric}" for row in rows for metric in metrics]
        self.columns = ["pair", *Pair._fields, *scores, "failure"]
        self.path = folder / (PAIRS if shard is None else f"pairs.{shard}.csv")
        self._done: set[int] = set()
        self._drop_incomplete_line()
        self.refresh()

    def _drop_incomplete_line(self) -> None:
        complete = 0
        if self.path.exists():
            with self.path.open("rb") as lines:
                complete = sum(len(line) for line in lines if line.endswith(b"\n"))
        if complete:
            os.truncate(self.path, complete)
        else:
            with whole_file(self.path) as part:
                part.write_bytes(_line(self.columns))
            _sync_folder(self.folder)  # lines are synced by `append`, the name of their file here

    def refresh(self) -> None:
        """Read which pairs are done, including those of other processes."""
        with ExitStack() as stack:
            self._done |= self._find(stack).keys()

    def _find(self, stack: ExitStack) -> dict[int, tuple[BinaryIO, int]]:
        """File and offset of the complete line of each pair."""
        found: dict[int, tuple[BinaryIO, int]] = {}
        for path in (self.folder / PAIRS, *sorted(self.folder.glob("pairs.*.csv"))):
            if path.exists():
                file, offset = stack.enter_context(path.open("rb")), 0
                for line in file:
                    cells = _cells(line)
                    if line.endswith(b"\n") and len(cells) == len(self.columns) and cells[0].isdecimal():
                        found.setdefault(int(cells[0]), (file, offset))
                    offset += len(line)
        return found

    @property
    def is_complete(self) -> bool:
        """True if every pair has a line."""
        return len(self._done) == len(self.pairs)

    def __contains__(self, index: object) -> bool:
        return index in self._done

    def __len__(self) -> int:
        return len(self._done)

    def append(self, indices: Sequence[int], results: Sequence[Result]) -> None:
        """Append lines and sync them to disk."""
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
        """Write pairs.csv from the lines of all processes, in the order of the pairs."""
        with ExitStack() as stack, whole_file(self.folder / PAIRS) as part, open(part, "wb") as merged:
            lines = self._find(stack)  # in open files, so that another process may merge at the same time
            merged.write(_line(self.columns))
            for number in range(len(self.pairs)):
                file, offset = lines[number]
                file.seek(offset)
                merged.write(file.readline())

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the lines of pairs.csv, after `merge`."""
        with open(self.folder / PAIRS, "rb") as lines:
            next(lines)
            for number, line in enumerate(lines):
                *values, failure = _cells(line)[1 + len(Pair._fields) :]
                numbers = [float(value) if value else math.nan for value in values]
                width = len(numbers) // len(self.rows)
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
