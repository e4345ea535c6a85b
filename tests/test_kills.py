"""Runs killed at random moments: whole files, no process left, and nothing left after the next. 200 in kill_runs.py."""

import random
from pathlib import Path

import pytest
import torch
from evaluation_clips import quick_reports
from kill_runs import Victim, make

KILLS = 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    torch.set_num_threads(1)
    with quick_reports():
        yield make(tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("name", ["animate", "evaluate", "convert", "training"])
def test_a_kill_leaves_what_the_next_run_completes(name, runs, tmp_path, capsys):
    victim, rng = Victim(name, runs[name], tmp_path), random.Random(name)
    for _ in range(KILLS):
        victim.kill(rng)
    victim.finish()
    assert not capsys.readouterr().out  # in which it says what is wrong


def test_what_is_half_written_or_left_is_seen(runs, tmp_path, capsys):
    def careless(out: Path) -> int:
        for name in (".a.part", "a.json"):
            (out / name).write_text("[1, ")
        return 0

    victim = Victim("careless", careless, tmp_path)
    victim.expected = ["a.json"]
    victim.kill(random.Random(0))
    (victim.out / "a.json").write_text("[1, ")
    victim.kill(random.Random(0))
    victim.finish()
    assert victim.half_written and victim.leftovers == 1
    assert "a.json: JSONDecodeError" in capsys.readouterr().out
