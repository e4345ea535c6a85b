"""Atomic writes: whole or absent, whoever else writes the same."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from depthaware.media.atomic import check_output, whole_file, whole_folder

WRITER = """
import sys
from depthaware.media.atomic import whole_file
with whole_file(sys.argv[1]) as part, open(part, "w") as file:
    for _ in range(1000):
        file.write(sys.argv[2])
        if file.tell() in (1, 1000):  # until the other is as far
            file.flush()
            print("here", flush=True)
            sys.stdin.readline()
"""


def test_whole_file_appears_at_the_end(tmp_path):
    with whole_file(tmp_path / "a") as part:
        part.write_text("b")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_check_output_sees_the_same_file_under_other_names(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "a.mp4")
    for other in ("a.mp4", "link.mp4", "hard.mp4", "../" + tmp_path.name + "/a.mp4"):
        with pytest.raises(ValueError, match="same file"):
            check_output(tmp_path / "a.mp4", (".mp4",), (tmp_path / other,))
    check_output(tmp_path / "b.mp4", (".mp4",), (tmp_path / "a.mp4",))


def test_two_threads_that_write_one_file_leave_a_whole_one(tmp_path):
    turns = threading.Barrier(2, timeout=30)

    def write(text: str) -> None:
        with whole_file(tmp_path / "a") as part, open(part, "w") as file:
            file.write(text * 500)
            file.flush()
            turns.wait()
            file.write(text * 500)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "xy"))
    assert (tmp_path / "a").read_text() in ("x" * 1000, "y" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_two_processes_that_write_one_file_leave_a_whole_one(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "a", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for text in "xy"
    ]
    for _ in range(2):
        assert [writer.stdout.readline() for writer in writers] == ["here\n"] * 2
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    assert (tmp_path / "a").read_text() in ("x" * 1000, "y" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_filled_at_the_end_and_the_last_file_comes_last(tmp_path, monkeypatch):
    import os

    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: moved.append(b.name) or replace(a, b))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "kept").touch()
    with whole_folder(tmp_path / "new", last="a") as part:
        for name in "abc":
            (part / name).write_text(name)
        assert not (tmp_path / "new" / "b").exists()
    assert moved == ["b", "c", "a"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "b", "c", "kept"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_stays_as_it_was_after_an_error(tmp_path, error):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("before")
    for name in ("old", "new"):
        with pytest.raises(error), whole_folder(tmp_path / name, last="a") as part:
            (part / "a").write_text("after")
            raise error
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["old", "old/a"]
    assert (tmp_path / "old" / "a").read_text() == "before"


def test_an_error_without_a_number_keeps_its_text(tmp_path):
    with pytest.raises(ConnectionError, match=r"^out of reach$"), whole_file(tmp_path / "a.txt"):
        raise ConnectionError("out of reach")
