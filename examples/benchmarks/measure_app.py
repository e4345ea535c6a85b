"""Four visitors of `depthaware app`, a process of its own, at once: are their videos their own, does its memory stay?

python examples/benchmarks/measure_app.py
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from depthaware import DaGAN, read_image, read_video
from depthaware.app.sessions import Session
from depthaware.app.studio import CLIP, PORTRAIT, Studio
from depthaware.media.image import write_image
from depthaware.media.video import Frame, write_video
from depthaware.training.options import option, run_recipe


@dataclass(frozen=True)
class Options:
    """Length of the measurement."""

    rounds: int = option(10, "of one video for each visitor")


def resident(process: int) -> float:
    """Memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


@contextmanager
def started_app() -> Iterator[tuple[str, int]]:
    """Start the page; yields its address and process."""
    command = [sys.executable, "-m", "depthaware", "app"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = next(word for line in process.stderr for word in line.split() if word.startswith("http"))
            yield address, process.pid
        finally:
            process.terminate()


def write_clip(path: Path) -> None:
    with write_video(path, (256, 256), Fraction(25)) as write:
        for index, frame in enumerate(islice(read_video(CLIP), 0, 150, 6)):
            write(Frame(frame.image, Fraction(index, 25)))


def write_photos(folder: Path) -> list[str]:
    """The portrait, mirrored, with red and blue exchanged, and both."""
    photo = read_image(PORTRAIT)
    looks = [photo, photo[:, ::-1], photo[..., ::-1], photo[:, ::-1, ::-1]]
    for index, look in enumerate(looks):
        write_image(folder / f"{index}.png", np.ascontiguousarray(look))
    return [str(folder / f"{index}.png") for index in range(len(looks))]


def frames(path: str | Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_video(path)])


def main(options: Options) -> None:
    from gradio_client import Client, handle_file

    studio = Studio(DaGAN.from_pretrained("dagan-tiny"))
    with tempfile.TemporaryDirectory() as name, started_app() as (address, process):
        folder, clip = Path(name), Path(name) / "clip.mp4"
        write_clip(clip)
        photos = write_photos(folder)
        alone = [
            frames(studio.video(Session(folder / f"alone{i}"), photo, str(clip))) for i, photo in enumerate(photos)
        ]
        visitors = [Client(address, verbose=False, download_files=str(folder / str(i))) for i in range(len(photos))]

        def visit(index: int) -> bool:
            sent = handle_file(photos[index]), handle_file(str(clip))
            result = visitors[index].predict(*sent, False, api_name="/video")
            path = result["video"] if isinstance(result, dict) else result
            return np.array_equal(frames(path), alone[index])

        right = 0
        with ThreadPoolExecutor(len(photos)) as pool:
            for number in range(1, options.rounds + 1):
                right += sum(pool.map(visit, range(len(photos))))
                print(
                    f"round {number}: {right} of {number * len(photos)} right, {resident(process):.0f} MB", flush=True
                )


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
