"""Two threads and three processes that write one result: one of theirs is there, whole, and each is told the truth."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import draw_image

from depthaware import RGBDKeypointDetector
from depthaware.media.image import read_image, write_image
from depthaware.media.video import Frame, read_video, write_video

THREADS, PROCESSES = 2, 3
SMALL = {"block_expansion": 4, "max_features": 8, "num_blocks": 1}


def all_at_once(write: Callable[[int], str], rounds: int = 3) -> list[str]:
    """Call with 0 to 4, two calls in threads of this process and three in processes of their own; what each says."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(THREADS + PROCESSES), context.SimpleQueue()

    def work(number: int) -> None:
        said = []
        for _ in range(rounds):
            start.wait(60)
            try:
                said.append(write(number))
            except Exception as error:
                said.append(repr(error))
        results.put((number, said))

    processes = [context.Process(target=work, args=(number,)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(PROCESSES, PROCESSES + THREADS)))
    found: dict[int, list[str]] = dict(results.get() for _ in range(PROCESSES + THREADS))
    for process in processes:
        process.join(60)
    return [line for number in sorted(found) for line in found[number]]


def video(path: Path) -> Callable[[int], str]:
    def write(number: int) -> str:
        with write_video(path, (48, 64), Fraction(25)) as add:
            for i in range(3 + number):
                add(Frame(draw_image(number), Fraction(i, 25)))
        return "written"

    return write


def image(path: Path) -> Callable[[int], str]:
    def write(number: int) -> str:
        write_image(path, draw_image(number, (200 + number, 300)))
        return "written"

    return write


def weights(folder: Path) -> Callable[[int], str]:
    def write(number: int) -> str:
        RGBDKeypointDetector(**SMALL, num_keypoints=3 + number).save_pretrained(folder)
        return "written"

    return write


def frames_of(path: Path) -> int:
    return len(list(read_video(path, strict=True))) - 3


KINDS: dict[str, tuple[Callable[[Path], Callable[[int], str]], Callable[[Path], int]]] = {  # writes, tells the writer
    "a.mp4": (video, frames_of),
    "a.gif": (video, frames_of),
    "a.png": (image, lambda path: read_image(path).shape[0] - 200),
    "weights": (weights, lambda path: RGBDKeypointDetector.from_pretrained(path).config["num_keypoints"] - 3),
}


@pytest.mark.parametrize("name", KINDS)
def test_one_result_is_there_and_whole_and_each_writer_is_told_so(name, tmp_path):
    torch.set_num_threads(1)
    write, writer = KINDS[name]
    path = tmp_path / "results" / name
    assert all_at_once(write(path)) == ["written"] * 3 * (THREADS + PROCESSES)
    assert 0 <= writer(path) < THREADS + PROCESSES
    assert [found.name for found in path.parent.iterdir()] == [name]
    assert not [found for found in path.parent.rglob(".*")]
