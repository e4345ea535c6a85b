"""Results and what is beside them: links, pipes, leftovers of killed processes, content before the name."""

import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from clips import draw_image

from depthaware.media.atomic import check_output, whole_file, whole_folder
from depthaware.media.leftovers import temporary
from depthaware.media.video import Frame, write_video

HOLD = """
import sys
from pathlib import Path
from depthaware.media.atomic import whole_file, whole_folder
folder = Path(sys.argv[1])
with whole_file(folder / "a.mp4") as file, whole_folder(folder, last="a") as made:
    file.write_bytes(b"half")
    (made / "b").write_bytes(b"half")
    print("here", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing two results into the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.communicate()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_leftovers_of_a_killed_process_go_with_the_next_result_and_those_of_a_living_one_stay(writer, tmp_path):
    (tmp_path / ".hidden.part").touch()  # somebody else's
    assert len(hidden(tmp_path)) == 3
    with whole_file(tmp_path / "other") as part:
        part.touch()
        assert len(hidden(tmp_path)) == 4
    assert len(hidden(tmp_path)) == 3
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with whole_folder(tmp_path, last="") as folder:
        (folder / "c").touch()
    assert sorted(os.listdir(tmp_path)) == [".hidden.part", "c", "other"]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs to see a process's open files")
def test_what_cannot_be_removed_is_no_error_and_stays_open_in_no_process(tmp_path, monkeypatch):
    (tmp_path / ".a.01234567.part").mkdir()
    os.mkfifo(tmp_path / ".pipe.01234567.part")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    before = os.listdir("/proc/self/fd")
    with whole_file(tmp_path / "a") as part:
        part.touch()
    assert os.listdir("/proc/self/fd") == before and hidden(tmp_path) == [".a.01234567.part"]


@pytest.mark.parametrize("opened", [False, True])
def test_a_writer_whose_file_is_swept_before_it_holds_it_takes_another(tmp_path, monkeypatch, opened):
    from depthaware.media import leftovers

    hold, lock = leftovers._hold, leftovers.fcntl.flock

    def sweep(take):
        def late(*args):
            monkeypatch.undo()
            (tmp_path / hidden(tmp_path)[0]).unlink()  # by another process
            return take(*args)

        return late

    if opened:
        monkeypatch.setattr(leftovers.fcntl, "flock", sweep(lock))
    else:
        monkeypatch.setattr(leftovers, "_hold", sweep(hold))
    with temporary(tmp_path / "a") as part:
        assert hidden(tmp_path) == [part.name]
    assert not hidden(tmp_path)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_kept_and_its_file_written(tmp_path, dangling):
    (tmp_path / "disk").mkdir()
    if not dangling:
        (tmp_path / "disk" / "b").write_text("before")
    (tmp_path / "a").symlink_to("disk/b")
    with whole_file(tmp_path / "a") as part:
        part.write_text("after")
    with whole_folder(tmp_path, last="") as folder:
        (folder / "c").touch()
    assert os.readlink(tmp_path / "a") == "disk/b" and (tmp_path / "disk" / "b").read_text() == "after"
    with whole_folder(tmp_path, last="") as folder:
        (folder / "a").write_text("again")
    assert os.readlink(tmp_path / "a") == "disk/b" and (tmp_path / "disk" / "b").read_text() == "again"
    assert sorted(os.listdir(tmp_path / "disk")) == ["b"] and not hidden(tmp_path)


def test_no_result_takes_the_place_of_a_pipe_or_of_a_link_to_itself(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    for name, found in {"pipe.mp4": "a pipe or device", "round.mp4": "a link to itself"}.items():
        for write in (whole_file, lambda path: check_output(path, (".mp4",))):
            with pytest.raises(ValueError, match=rf"^output '.*{name}': is {found}, expected a file$"):
                write(tmp_path / name).__enter__()
    with pytest.raises(ValueError, match="a pipe or device"):
        check_output("/dev/null", ("",))


@pytest.mark.parametrize("length", [255, 256])
def test_a_name_is_as_long_as_the_system_allows(tmp_path, length):
    path = tmp_path / ("a" * (length - 4) + ".mp4")
    if length > 255:
        with pytest.raises(OSError, match="File name too long"):
            check_output(path, (".mp4",))
        return
    check_output(path, (".mp4",))
    with whole_file(path) as part:
        part.touch()
    assert path.exists()


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: steps.append(os.fstat(file).st_size) or fsync(file))
    monkeypatch.setattr(os, "replace", lambda a, b: steps.append(Path(b).name) or replace(a, b))
    with whole_file(tmp_path / "a") as part:
        part.write_bytes(b"12345")
    with whole_folder(tmp_path, last="") as folder:
        (folder / "b").write_bytes(b"123")
    assert steps == [5, "a", 3, "b"]


def test_a_folder_in_the_making_can_be_written_as_a_whole(tmp_path):
    """As a page is, of which an export is a part; it waited for itself."""

    def write() -> None:
        with whole_folder(tmp_path, last="a") as outer, whole_folder(outer, last="b") as inner:
            (inner / "b").touch()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(10)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_error_of_the_system_names_the_result(tmp_path):
    with pytest.raises(OSError) as error, whole_folder(tmp_path / "new", last="") as folder:
        (folder / "b" / "c").touch()
    assert error.value.filename == str(tmp_path / "new" / "b" / "c")
    with pytest.raises(OSError) as error, whole_folder(tmp_path / "new", last="") as folder:
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "f/%d.png"])
def test_a_video_without_frames_is_none(tmp_path, name):
    with pytest.raises(ValueError, match=r"cannot be written"), write_video(tmp_path / name, (48, 64), Fraction(25)):
        pass
    assert not list(tmp_path.iterdir())
    with write_video(tmp_path / name, (48, 64), Fraction(25)) as write:
        write(Frame(draw_image(), Fraction(0)))
    assert list(tmp_path.iterdir())
