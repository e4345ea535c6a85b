"""Mutants of every kind of file that is read: something is read, or one line says why not. 5 000 in fuzz_media.py."""

import random
import resource
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from fuzz_media import good_files, mutant

from depthaware.inference import MotionTemplate
from depthaware.keypoints import Keypoints
from depthaware.media.audio import sound_in
from depthaware.media.still import is_still, read_image
from depthaware.media.video import read_video

MUTANTS = 200


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    points = Keypoints(torch.zeros(4, 3, 2), torch.zeros(4, 3, 2, 2))
    rows = [torch.arange(4), torch.zeros(4, dtype=torch.int32), torch.ones(4, dtype=torch.bool), torch.tensor([0])]
    MotionTemplate(points, *rows, Fraction(25), Fraction(1, 25), "0" * 64).save(folder / "a.safetensors")
    return good_files(folder) | {"safetensors": folder / "a.safetensors"}


def read(path: Path) -> None:
    """Read all of a file, in each of the ways in which a command might."""
    if path.suffix == ".safetensors":
        MotionTemplate.load(path)
    elif path.suffix == ".wav":
        sound_in(path, ".mp4")
    elif is_still(path):
        assert min(read_image(path).shape) > 0
    else:
        assert list(read_video(path))


@pytest.mark.filterwarnings("ignore")
def test_no_mutant_ends_in_anything_but_a_line(good, tmp_path):
    rng, read_well, before = random.Random(0), 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turn in range(MUTANTS):
        kind = list(good)[turn % len(good)]
        path = tmp_path / f"case.{kind.rpartition('.')[2]}"
        path.write_bytes(mutant(good[kind], good[kind].read_bytes(), rng))
        start = time.process_time()
        try:
            read(path)
            read_well += 1
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error) and len(str(error)) < 1000
        assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert MUTANTS / 10 < read_well < MUTANTS  # mutants are neither harmless nor hopeless
