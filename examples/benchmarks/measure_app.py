"""Four visitors of `depthaware app` at once: are their videos their own, and does its memory stay?

python examples/benchmarks/measure_app.py
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from depthaware import DaGAN, read_image, read_video
from depthaware.app.server import serve
from depthaware.app.sessions import Session
from depthaware.app.studio import CLIP, PORTRAIT, Studio
from depthaware.media.image import write_image
from depthaware.media.video import Frame, write_video

ROUNDS = 10


def resident() -> float:
    """Memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


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


def main() -> None:
    from gradio_client import Client, handle_file

    studio = Studio(DaGAN.from_pretrained("dagan-tiny"))
    with tempfile.TemporaryDirectory() as name, serve(studio) as address:
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
            for number in range(1, ROUNDS + 1):
                right += sum(pool.map(visit, range(len(photos))))
                print(f"round {number}: {right} of {number * len(photos)} right, {resident():.0f} MB", flush=True)


if __name__ == "__main__":
    main()
