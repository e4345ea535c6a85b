"""Measure how the crops of training clips lie around the detected faces: the figures of `depthaware.faces.face_crop`.

    python examples/benchmarks/measure_crops.py FOLDER

FOLDER holds square clips, in folders of their own or not. Prints percentiles over their frames, `PER_CLIP` each.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from depthaware import read_video
from depthaware.faces import BlazeFaceDetector, FaceDetector, roll

PER_CLIP = 3
PERCENTILES = (5, 25, 50, 75, 95)


def measure(path: Path, detector: FaceDetector) -> Iterator[tuple[float, ...]]:
    """Side of the frame, and center of the frame from that of the box, in sides of the box; tilt in degrees."""
    video = read_video(path)
    step = max(video.frames // PER_CLIP, 1)
    for index, frame in enumerate(video):
        if index % step or index >= step * PER_CLIP:
            continue
        for face in detector([frame.image])[0][:1]:
            left, top, right, bottom = face.box
            side = max(right - left, bottom - top)
            length = min(frame.image.shape[:2])
            right, up = (length - 1 - left - right) / 2 / side, (top + bottom - length + 1) / 2 / side
            yield length / side, right, up, np.degrees(roll(face))


def main() -> None:
    paths, detector = sorted(Path(sys.argv[1]).rglob("*.mp4")), BlazeFaceDetector()
    rows = np.array([row for path in paths for row in measure(path, detector)])
    print(f"{len(rows)} faces in {len(paths)} clips")
    print(f"{'percentile':24}" + "".join(f"{p:8}" for p in PERCENTILES))
    names = ("frame / box", "center to the right", "center above", "tilt in degrees")
    for name, values in zip(names, np.percentile(rows, PERCENTILES, axis=0).T, strict=True):
        print(f"{name:24}" + "".join(f"{value:8.2f}" for value in values))


if __name__ == "__main__":
    main()
