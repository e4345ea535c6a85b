"""Detection of faces of any size in images of any size."""

from collections.abc import Sequence

import numpy as np

from ..media.image import Image
from .face import Face
from .merging import SAME, area, merge, overlap
from .views import Network, View, around, look, whole

# Longer side of the image in network pixels at each level of the search, and the evidence that a face needs there:
# the more places are searched, the more of them look like a face. Chosen on faces and clutter by measure_faces.py.
_LEVELS = ((128, 0.5), (64, 0.5), (384, 0.7), (1152, 0.74), (2304, 0.74))
_PROPOSED = 0.4  # score from which on a second look is taken
_CLEAR = 0.7  # score from which on none is needed at the first two levels
_LARGE = 32  # network pixels from which on the place of a face needs no close-up
_PLAUSIBLE = 0.65  # score of the short-range network's second look below which the full-range network is spared


class BlazeFaceDetector:
    """A [`FaceDetector`][depthaware.faces.FaceDetector] whose weights are part of the package.

    BlazeFace's short-range network searches the image at growing resolution until it finds a face: at the end the
    longer side has 2304 pixels, and a face 20 of them. A face that is unclear or found late is looked at again in
    close-ups, by the full-range network too. Everything runs on the CPU.

    Args:
        all_sizes: search at every resolution, for small faces beside large ones too; takes as long as an image
            without a face.
    """

    def __init__(self, *, all_sizes: bool = False) -> None:
        self.all_sizes = all_sizes

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
        for side, evidence in _LEVELS:
            chosen = [
                i
                for i, image in enumerate(images)
                if (self.all_sizes or not found[i]) and (side <= 128 or side < 2 * max(image.shape))
            ]
            views = [whole(images[i], side) for i in chosen]
            proposed = look([images[i] for i in chosen], views, _PROPOSED)
            for i, view, faces in zip(chosen, views, proposed, strict=True):
                kept = [_confirm(images[i], face, view, side, evidence) for face in faces]
                found[i] = merge(found[i] + [face for face in kept if face])
        return [sorted(faces, key=lambda face: -float(area(face.box))) for faces in found]


def _confirm(image: Image, face: Face, view: View, side: int, evidence: float) -> Face | None:
    """Take a clear face, from a close-up if it is small, and another if there is evidence."""
    if side > 128 or face.score < _CLEAR:
        return second_look(image, face, evidence)
    large = float(face.box[2] - face.box[0]) >= _LARGE * view.step
    return face if large else _close_up(image, face)._replace(score=face.score)


def second_look(image: Image, face: Face, evidence: float) -> Face | None:
    """Look at a face in close-ups by both networks.

    Returns:
        The face in a close-up; its score is the mean of the face's,
        of that network's in a wider view, and twice that of the full-range network, which errs on other things. None
        if that is less than `evidence`.
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
    """Find a face again where it has the size that the short-range network knows best."""
    return _again(image, face, around(face, 2.5, 128)) or face


def _score(image: Image, face: Face, view: View, network: Network = "short_range") -> float:
    again = _again(image, face, view, network)
    return again.score if again else 0.0


def _again(image: Image, face: Face, view: View, network: Network = "short_range") -> Face | None:
    """Find a face again in a view of it."""
    (faces,) = look([image], [view], 0.05, network)
    return next((other for other in faces if overlap(face.box, other.box[None])[0] > SAME), None)
