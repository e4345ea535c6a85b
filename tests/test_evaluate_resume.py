"""Interrupted evaluations: resumed after anything, they end with the same report."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from evaluation_clips import SMALL, load_stand_in, quick_reports, report, run, write_clips

from depthaware import DaGAN, extractors
from depthaware.evaluation.results_log import open_report


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(extractors, "load", load_stand_in)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_reports():
        yield


def test_doing_it_again_does_nothing_again(data, tiny_weights, tmp_path, monkeypatch, capsys):
    run(data, tiny_weights, tmp_path / "r")
    before = report(tmp_path / "r")
    monkeypatch.setattr("depthaware.evaluation.run.Evaluator.__call__", None)
    assert run(data, tiny_weights, tmp_path / "r") == 0
    assert report(tmp_path / "r") == before


@pytest.fixture(scope="module")
def whole(data, tiny_weights, tmp_path_factory) -> dict[str, bytes]:
    """The report of one undisturbed process."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(data, tiny_weights, folder, *SMALL) == 0
    return report(folder)


@pytest.mark.parametrize("cut", [1, 300, 900])
def test_results_cut_anywhere_are_completed_to_the_same_report(data, tiny_weights, tmp_path, whole, cut):
    run(data, tiny_weights, tmp_path / "r", *SMALL)
    for name in whole.keys() - {"pairs.csv"}:
        (tmp_path / "r" / name).unlink()
    os.truncate(tmp_path / "r/pairs.csv", cut)
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


def test_stored_options_survive_a_power_cut(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), fsync(handle)))
    open_report(tmp_path / "r", {"name": "model"})
    assert {path.stat().st_ino for path in (tmp_path / "r/options.json", tmp_path / "r", tmp_path)} <= synced


def start(data: Path, weights: str, output: Path, **popen) -> subprocess.Popen:
    given = ["--weights", weights, "--data", str(data), "--protocol", "same-identity", "--output", str(output)]
    line = [sys.executable, "-m", "depthaware", "evaluate", *given, *SMALL]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **popen)


def test_kill_9_and_resuming_give_the_same_report(data, tiny_weights, tmp_path, whole):
    process, pairs, deadline = (
        start(data, tiny_weights, tmp_path / "r"),
        tmp_path / "r/pairs.csv",
        time.monotonic() + 300,
    )
    while not (pairs.exists() and pairs.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 3 < pairs.read_bytes().count(b"\n") < 22 and not (tmp_path / "r/report.json").exists()
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


def test_a_full_disk_is_one_line_and_can_be_resumed(data, tiny_weights, tmp_path, whole):
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1500, 1500))
    process = start(data, tiny_weights, tmp_path / "r", preexec_fn=limit)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[1:] == [f"depthaware: error: {tmp_path / 'r/pairs.csv'}: File too large"]
    assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole


@pytest.mark.parametrize("world, order", [(3, (2, 0, 1)), (2, (1, None))])
def test_shards_are_the_whole_and_one_process_ends_what_is_missing(
    data, tiny_weights, tmp_path, whole, monkeypatch, capsys, world, order
):
    for rank in order:
        assert not (tmp_path / "r/report.json").exists()
        for name, value in (("WORLD_SIZE", world), ("RANK", rank)):
            monkeypatch.setenv(name, str(value)) if rank is not None else monkeypatch.delenv(name)
        assert run(data, tiny_weights, tmp_path / "r", *SMALL) == 0
    assert report(tmp_path / "r") == whole
    assert "of 21 pairs are done, the others are left to other processes" in capsys.readouterr().out


def test_a_report_of_something_else_is_left_alone(data, tiny_weights, tmp_path, capsys):
    run(data, tiny_weights, tmp_path / "r", "--every", "2")
    DaGAN(**json.loads((Path(tiny_weights) / "config.json").read_text())).save_pretrained(tmp_path / "tiny")
    config = (
        shutil.copytree(tiny_weights, tmp_path / "other/tiny") / "config.json"
    )  # the same weights, sampled otherwise
    options = json.loads(config.read_text())
    config.write_text(json.dumps(options | {"align_corners": not options["align_corners"]}))
    before = report(tmp_path / "r")
    for weights, options, what in (
        (tiny_weights, [], "every=2, got every=1;"),
        (tiny_weights, ["--every", "2", "--metrics", "l1"], 'metrics=["ssim", "ps..., got metrics=["l1"];'),
        (str(tmp_path / "tiny"), ["--every", "2"], "weights="),
        (str(tmp_path / "other/tiny"), ["--every", "2"], "weights="),
    ):
        capsys.readouterr()
        assert run(data, weights, tmp_path / "r", *options) == 2
        error = capsys.readouterr().err
        assert f"output '{tmp_path / 'r'}': was created with {what}" in error and error.count("\n") == 1
        assert error.endswith("resume with the same options or choose another output\n")
    assert report(tmp_path / "r") == before
