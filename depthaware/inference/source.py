"""The image to be animated: its faces, their squares, and the way back into the image."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from ..faces import BlazeFaceDetector
from ..faces.crop import face_crop, whole_image
from ..faces.face import Face, FaceDetector, roll
from ..faces.paste import Paste
from ..media.image import AnyImage, Image, fit_square, to_tensor, to_uint8
from .inputs import opened, warn
from .options import AnimateOptions

TILTED = 0.1
"""Roll in radians from which the square of a face is tilted with it; 90 % of the training faces have less than 0.17."""
MARGIN = 0.06
"""By which the box of a face is grown on each side, in its widths, for the key points on it."""
DOUBTFUL = 0.8
"""Share of the best score below which a detection counts for nothing."""


class Source:
    """A source image and its chosen faces.

    Args:
        image: any of `load_image`.
        size: side of the model's input in pixels.
        options: of which `fit`, `face`, `paste` and `max_size` are read.
        detector: of faces, called only if `fit` is "face".

    Attributes:
        faces: the chosen ones; empty if none was found or searched.
        crops: their squares.
        squares: (F, 3, size, size) in [0, 1], on the CPU, one for each face; the fitted image if there is none.
    """

    def __init__(
        self, image: AnyImage, size: int, options: AnimateOptions, detector: FaceDetector | None = None
    ) -> None:
        self.size, self.options, image = size, options, opened(image)
        self.faces = _chosen_faces(to_array(image), options.face, detector) if options.fit == "face" else []
        if not self.faces:
            self.crops, self.squares = [], fit_square(image, size, "crop" if options.fit == "face" else options.fit)
            return
        self._image = to_array(image)
        self.crops = [
            whole_image(face_crop(face, upright=abs(roll(face)) < TILTED), self._image.shape) for face in self.faces
        ]
        self.squares = torch.cat([to_tensor(crop.read(self._image, size)) for crop in self.crops])

    @property
    def pastes(self) -> bool:
        """True if the output has the size of the image, False if it is the generated square."""
        return self.options.paste and bool(self.crops)

    @cached_property
    def photo(self) -> Image:
        """Source as large as the output, uint8: the image, at most `max_size` pixels long, or its first square."""
        if not self.pastes:
            return to_uint8(self.squares[:1])[0]
        height, width = self._image.shape[:2]
        scale = self.options.max_size / max(height, width)
        if scale >= 1:
            return self._image
        small = Pillow.fromarray(self._image).resize(
            (max(round(width * scale), 1), max(round(height * scale), 1)), Pillow.Resampling.BICUBIC, reducing_gap=2.0
        )
        return np.asarray(small)

    def on_face(self, index: int, points: Tensor) -> Tensor | None:
        """Tell which points (N, 2) in [-1, 1] of a square lie in the box of its face, if one was found."""
        if not self.faces:
            return None
        pixels = (points.cpu().double().numpy() + 1) / 2 * (self.size - 1)
        x, y = self.crops[index].to_image(pixels, self.size).T
        left, top, right, bottom = self.faces[index].box
        margin = MARGIN * (right - left)
        inside = (abs(x - (left + right) / 2) <= (right - left) / 2 + margin) & (
            abs(y - (top + bottom) / 2) <= (bottom - top) / 2 + margin
        )
        return torch.from_numpy(inside).to(points.device)

    @cached_property
    def _paste(self) -> Paste:
        scale = max(self.photo.shape) / max(self._image.shape)
        return Paste(self.photo, [crop.scaled(scale) for crop in self.crops], self.size)

    def output(self, squares: Sequence[Image]) -> Image:
        """Make an output frame, uint8 (H, W, 3), of the generated squares, uint8 (size, size, 3), one for each face."""
        return self._paste(squares) if self.pastes else squares[0]


def to_array(image: Image | Tensor) -> Image:
    """Convert an image, uint8 (H, W, 3), or floats (3, H, W) or (1, 3, H, W) in [0, 1], to uint8 (H, W, 3)."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    return to_uint8(to_tensor(image))[0]


def _chosen_faces(image: Image, choice: int | str, detector: FaceDetector | None) -> list[Face]:
    """Find faces and choose among them; warn if there is none."""
    found = (detector or BlazeFaceDetector(all_sizes=True))([image])[0]
    faces = [face for face in found if face.score >= DOUBTFUL * max(face.score for face in found)]
    if not faces:
        warn("no face found in the source image: its central square is animated")
    if not faces or choice == "all":
        return faces
    if choice == "largest":
        return faces[:1]
    left_to_right = sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))
    if not isinstance(choice, int) or choice >= len(faces):
        raise ValueError(f"face: expected one of the {len(faces)} faces, 0 to {len(faces) - 1}, got {choice}")
    return [left_to_right[choice]]
