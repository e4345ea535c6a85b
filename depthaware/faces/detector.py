"""Detection of faces of any size in images of any size."""

from collections.abc import Sequence

import numpy as np

from ..media.image import Image
from .face import Face
from .merging import SAME, merge, overlap
from .views import Network, View, around, look, whole

# Longer side of the image in network pixels at each level of the search, and the evidence that a face needs there:
# the more places are searched, the more of them look like a face. Chosen on faces and clutter by measure_faces.py.
_LEVELS = ((128, 0.5), (64, 0.5), (256, 0.65), (512, 0.7), (1024, 0.76), (2048, 0.76))
_SMALLEST = 20  # network pixels: a face that is nearly always found
_LARGE = 32  # network pixels: if such a face is found, so are all that are at least _COMPARABLE as large
_COMPARABLE = 0.6
_PROPOSED = 0.4  # score from which on a second look is taken
_CLEAR = 0.7  # score from which on none is needed at the first two levels
_PLAUSIBLE = 0.65  # score of the short-range network's second look below which the full-range network is spared


class BlazeFaceDetector:
    """A [`FaceDetector`][depthaware.faces.FaceDetector] whose weights are part of the package.

    BlazeFace's short-range network searches the image at growing resolution until it finds a face, and with it all
    faces of comparable size: at the end the longer side has 2048 pixels, of which a face needs 20. A face that is
    unclear or found late is looked at again in close-ups, by the full-range network too. Everything runs on the CPU.

    Args:
        all_sizes: search at every resolution, for small faces beside large ones too; takes as long as an image
            without a face.
        smallest: side of the smallest face worth finding, in pixels: the search ends where it would have been found.
    """

    def __init__(self, *, all_sizes: bool = False, smallest: float = 0) -> None:
        self.all_sizes, self.smallest = all_sizes, smallest

    def __call__(self, images: Sequence[Image]) -> list[list[Face]]:
        """Find the faces in images.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.

        Returns:
            The faces of each image, the largest first. `Face.score` is the network's, or the evidence of all looks.

        Raises:
            ValueError: if an image is no such array.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(f"image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
        found: list[list[Face]] = [[] for _ in images]
        steps = [0.0] * len(images)  # of the last level
        for side, evidence in _LEVELS:
            chosen = [i for i, image in enumerate(images) if self._is_open(side, max(image.shape), found[i])]
            views = [whole(images[i], side) for i in chosen]
            proposed = look([images[i] for i in chosen], views, _PROPOSED)
            for i, view, faces in zip(chosen, views, proposed, strict=True):
                clear = _CLEAR if side <= 128 else 1.0
                if found[i] and not self.all_sizes:
                    least = _COMPARABLE * max(map(_width, found[i]))
                    faces = [face for face in faces if _width(face) >= least]
                found[i] = _update(images[i], found[i], faces, view, clear, evidence)
                steps[i] = view.step
        located = [
            [face if _width(face) >= _LARGE * step else _close_up(image, face) for face in faces]
            for image, faces, step in zip(images, found, steps, strict=True)
        ]
        return [sorted(faces, key=lambda face: -_width(face)) for faces in located]

    def _is_open(self, side: int, longer: int, found: Sequence[Face]) -> bool:
        """Tell whether an image of `longer` pixels is searched at a level."""
        if side <= 128:
            return side == 128 or not found
        coarser = max(other for other, _ in _LEVELS if other < side) / longer  # network pixels per pixel
        done = any(_width(face) * coarser >= _LARGE for face in found) and not self.all_sizes
        return not done and side < 2 * longer and self.smallest * coarser < _SMALLEST


class LiveFaceDetector:
    """A [`FaceDetector`][depthaware.faces.FaceDetector] for cameras, where time counts more than small faces.

    It searches for faces from 16 % of the longer side of the image on, and only without one for those from 10 % on.
    """

    def __call__(self, images: Sequence[Image]) -> list[list[Face]]:
        """Find the faces in images, see `BlazeFaceDetector`."""
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Face]:
        for share in (_SMALLEST / 128, 0.1):
            (faces,) = BlazeFaceDetector(smallest=share * max(image.shape))([image])
            if faces:
                break
        return faces


def _update(
    image: Image, known: list[Face], proposed: Sequence[Face], view: View, clear: float, evidence: float
) -> list[Face]:
    """Add the faces of a level that are clear or for which there is evidence; replace those that were too small."""
    settled = [face for face in known if _width(face) >= 2 * _LARGE * view.step]
    vague = [face for face in known if _width(face) < 2 * _LARGE * view.step]
    accepted: list[Face] = []
    for face in proposed:
        if any(_same(face, other) for other in settled):
            continue
        sure = face.score >= clear or any(_same(face, other) for other in vague)
        again = face if sure else second_look(image, face, evidence)
        if again and not any(_same(again, other) for other in settled):  # it may have moved
            accepted.append(again)
    kept = merge(accepted)
    return settled + kept + [face for face in vague if not any(_same(face, other) for other in kept)]


def second_look(image: Image, face: Face, evidence: float) -> Face | None:
    """Look at a face in close-ups by both networks.

    Returns:
        The face in a close-up; its score is the mean of the face's, of that network's in a wider view, and twice that
        of the full-range network, which errs on other things. None if that is less than `evidence`.
    """
    wide = _score(image, face, around(face, 4, 128))
    if wide < _PLAUSIBLE:
        return None
    full = [_score(image, face, around(face, zoom, 192), "full_range") for zoom in (4, 6)]
    score = (face.score + wide + sum(full)) / 4
    if score < evidence:
        return None
    return _close_up(image, face)._replace(score=score)


def _close_up(image: Image, face: Face) -> Face:
    """Find a face again where it has the size that the short-range network knows best; its score stays."""
    return (_again(image, face, around(face, 2.5, 128)) or face)._replace(score=face.score)


def _score(image: Image, face: Face, view: View, network: Network = "short_range") -> float:
    again = _again(image, face, view, network)
    return again.score if again else 0.0


def _again(image: Image, face: Face, view: View, network: Network = "short_range") -> Face | None:
    """Find a face again in a view of it."""
    (faces,) = look([image], [view], 0.05, network)
    return next((other for other in faces if _same(face, other)), None)


def _same(face: Face, other: Face) -> bool:
    return bool(overlap(face.box, other.box[None])[0] > SAME)


def _width(face: Face) -> float:
    return float(face.box[2] - face.box[0])
