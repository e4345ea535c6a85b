"""Records of the processed sources, one file each, so that work can be resumed; and tables made from them."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...media.atomic import whole_file
from .raw_videos import clip_prefix


class ManifestRow(NamedTuple):
    """A row of manifest.csv: a clip that was written.

    Attributes:
        name: of the mp4, without the suffix.
        kind: always "clip".
        split: "train" or "test".
        identity: of the person.
        frames: number of frames.
        source: path of the raw video, relative to the data folder.
        start: seconds of the source.
        box: "left top side" of the square in pixels of the source.
        seconds: duration.
    """

    name: str
    kind: str
    split: str
    identity: str
    frames: int
    source: str
    start: float
    box: str
    seconds: float


class DroppedRow(NamedTuple):
    """A row of dropped.csv: a part of a source that was left out.

    Attributes:
        source: path of the raw video, relative to the data folder.
        start: seconds of the source.
        seconds: duration.
        reason: one of those in docs/data.md.
    """

    source: str
    start: float
    seconds: float
    reason: str


class Record(NamedTuple):
    """Results for one source, written after its clips.

    Attributes:
        source: path of the raw video, relative to the data folder.
        stamp: from `stamp_of`, to notice a changed source.
        clips: rows of the manifest.
        dropped: parts that were left out.
    """

    source: str
    stamp: list[int]
    clips: tuple[ManifestRow, ...] = ()
    dropped: tuple[DroppedRow, ...] = ()


def drop(record: Record, start: float, seconds: float, reason: str) -> Record:
    """Add a part of the source that was left out, with the reason."""
    return record._replace(dropped=(*record.dropped, DroppedRow(record.source, start, seconds, reason)))


def stamp_of(path: Path) -> list[int]:
    """Size and modification time, which tell whether a source has changed; empty for a dangling link."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def record_path(output: Path, source: str) -> Path:
    """Path of the record of a source."""
    return output / ".done" / f"{clip_prefix(source)}.json"


def save(output: Path, record: Record) -> Record:
    """Write a record atomically, and return it."""
    with whole_file(record_path(output, record.source)) as part:
        part.write_text(json.dumps(record._asdict()))
    return record


def load(path: Path) -> Record:
    """Read a record that `save` wrote."""
    fields = json.loads(path.read_text())
    clips = tuple(ManifestRow(*row) for row in fields["clips"])
    dropped = tuple(DroppedRow(*row) for row in fields["dropped"])
    return Record(fields["source"], fields["stamp"], clips, dropped)


def forget(output: Path, source: str) -> None:
    """Delete the record, the clips and their landmarks of an earlier version of a source."""
    record_path(output, source).unlink(missing_ok=True)
    for clip in output.glob(f"*/clips/{clip_prefix(source)}_*.mp4"):
        clip.unlink()
    for landmarks in output.glob(f"landmarks/{clip_prefix(source)}_*.npz"):
        landmarks.unlink()


def write_tables(output: Path, sources: Iterable[str]) -> tuple[list[ManifestRow], list[DroppedRow]]:
    """Write manifest.csv and dropped.csv from the records of these sources, and return their rows.

    Rows of clips whose file was deleted are left out.
    """
    records = [load(record_path(output, source)) for source in sources]
    clips = [row for record in records for row in record.clips if clip_path(output, row).exists()]
    dropped = [row for record in records for row in record.dropped]
    _write_table(output / "manifest.csv", ManifestRow._fields, clips)
    _write_table(output / "dropped.csv", DroppedRow._fields, dropped)
    return clips, dropped


def clip_path(output: Path, row: ManifestRow) -> Path:
    """Path of the mp4 of a row."""
    return output / row.split / "clips" / f"{row.name}.mp4"


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *sorted(rows)])


def printable(text: str) -> str:
    """Escape bytes of file names that are not valid text, as the tables do."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
