"""What became of each raw video: a small file for each, so that work can stop and go on, and tables of them all."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...media.atomic import whole_file
from .raw_videos import clip_prefix


class Clip(NamedTuple):
    """A row of manifest.csv."""

    name: str
    kind: str
    split: str
    identity: str
    frames: int
    source: str
    start: float
    box: str
    seconds: float


class Dropped(NamedTuple):
    """A row of dropped.csv."""

    source: str
    start: float
    seconds: float
    reason: str


class Record(NamedTuple):
    """What became of a source, in a file of its own that is written when all the rest is."""

    source: str
    stamp: list[int]
    clips: tuple[Clip, ...] = ()
    dropped: tuple[Dropped, ...] = ()


def drop(record: Record, start: float, seconds: float, reason: str) -> Record:
    """Add a stretch of the source that was left out, and why."""
    return record._replace(dropped=(*record.dropped, Dropped(record.source, start, seconds, reason)))


def stamp_of(path: Path) -> list[int]:
    """Tells whether a source is another than before; empty if there is none, as behind a link that leads nowhere."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def record_path(output: Path, source: str) -> Path:
    """File of the record of a source."""
    return output / ".done" / f"{clip_prefix(source)}.json"


def save(output: Path, record: Record) -> Record:
    """Write a record, whole or not at all, and return it."""
    with whole_file(record_path(output, record.source)) as part:
        part.write_text(json.dumps(record._asdict()))
    return record


def load(path: Path) -> Record:
    """Read a record that `save` wrote."""
    fields = json.loads(path.read_text())
    clips, dropped = (Clip(*row) for row in fields["clips"]), (Dropped(*row) for row in fields["dropped"])
    return Record(fields["source"], fields["stamp"], tuple(clips), tuple(dropped))


def forget(output: Path, source: str) -> None:
    """Remove what an earlier state of a source left."""
    record_path(output, source).unlink(missing_ok=True)
    for clip in output.glob(f"*/clips/{clip_prefix(source)}_*.mp4"):
        clip.unlink()


def legible(text: str) -> str:
    """Names of files need not be text: what is none of one shows as its code, as in the tables."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a CSV table, rows sorted."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *sorted(rows)])
