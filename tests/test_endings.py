"""The end of a run: what a terminal cannot show fails nothing, and no message holds what a terminal obeys."""

import os
import signal
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from clips import draw_image

from depthaware.cli.common import describe
from depthaware.cli.main import main
from depthaware.cli.terminal import one_line
from depthaware.media.image import read_image, write_image
from depthaware.media.memory import needing_memory


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("me.png", draw_image())
    return tmp_path


class Broken:
    """A stream that fails in every way."""

    encoding = "cp1252"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str = "") -> int:
        raise self.error

    flush = isatty = write


BROKEN = [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe"), ValueError("closed file")]


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_a_written_result_is_a_success_whatever_happens_to_its_report(here, tiny_weights, monkeypatch, capsys, error):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert main(["depth", "me.png", "--weights", tiny_weights]) == 0
    assert read_image("me_depth.png").shape == (48, 64, 3)
    assert "warning: the result is written, but this report cannot be printed" in capsys.readouterr().err
    assert main(["inspect", "me.png"]) == 0  # its stdout was put aside


@pytest.mark.parametrize("stream", [*map(Broken, BROKEN), None], ids=["full", "pipe", "closed", "none"])
def test_nobody_has_to_listen_to_stderr(here, tiny_weights, monkeypatch, capsys, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["depth", "me.png", "--weights", tiny_weights]) == 0
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["depth", "missing.png", "--weights", tiny_weights]) == 2
    assert capsys.readouterr().out.startswith("me_depth.png")


@pytest.mark.parametrize(
    "streams, code",
    [(">/dev/full", 2), (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("| true", 0), ("2>&1 >/dev/null | true", 0)],
)
def test_a_real_process_ends_as_it_should(here, streams, code):
    """`inspect`, whose only result is its report; PYTHONIOENCODING is that of Windows, with a name that it lacks."""
    os.rename("me.png", "я.png")
    line = f"{sys.executable} -m depthaware inspect я.png {streams}; exit ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode in (code, 2 if "| true" in streams else code), done
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done


def test_messages_hold_nothing_that_a_terminal_obeys(here, capsys):
    name = "\x1b[31mred\a\u202etxt" + "x" * 3000
    assert main(["depth", name]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err[:-1].isprintable() and r"\x1b[31mred\x07\u202etxt" in err
    assert len(err) < 1000 and err.endswith(" name too long\n")
    assert one_line("a\nb\t c") == "a b c"


def test_a_result_with_a_dangerous_name_is_reported_safely(here, tiny_weights, capsys):
    assert main(["depth", "me.png", "--weights", tiny_weights, "--output", "\x1b[31m.png"]) == 0
    assert capsys.readouterr().out.startswith(r"\x1b[31m.png: 64 x 48")


def test_too_little_memory_names_what_was_too_big(here, tiny_weights, monkeypatch, capsys):
    def load(image):
        np.empty(2**57)

    monkeypatch.setattr(PIL.Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert main(["depth", "me.png", "--weights", tiny_weights]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("me.png: an image of 64 x 48 pixels: out of memory, 1.00 EiB more are not to be had")


@pytest.mark.parametrize(
    "error, line",
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
            "out of memory, 99 bytes more are not to be had",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            "out of memory, 2.00 GiB more are not to be had",
        ),
    ],
)
def test_every_lack_of_memory_is_told_in_one_way(error, line):
    assert describe(error) == line
    with pytest.raises(MemoryError, match=f"^a: {line}$"), needing_memory("b"), needing_memory("a"):
        raise error
    with pytest.raises(RuntimeError, match=r"^of shapes$"), needing_memory("a"):
        raise RuntimeError("of shapes")


@pytest.mark.parametrize(
    "line",
    [
        "animate pipe pipe out.mp4",
        "animate --audio pipe",
        "depth pipe",
        "attention pipe",
        "attention pipe --points 1,1",
        "compare --source pipe",
        "convert pipe --output out",
        "inspect pipe",
        "evaluate --data . --output out --protocol pipe.csv",
        "animate --weights weights",
    ],
)
def test_no_command_waits_for_a_pipe(here, tiny_weights, capsys, line):
    os.mkfifo("pipe")
    os.mkfifo("pipe.csv")
    os.mkdir("weights")
    os.mkfifo("weights/config.json")

    def give_up(*_):
        raise AssertionError("waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        assert main(line.split()) == 2
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "is a pipe or device, expected" in capsys.readouterr().err
