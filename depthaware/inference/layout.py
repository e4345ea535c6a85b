"""Layout of output frames."""

from collections.abc import Sequence

import numpy as np

from ..media.image import Image
from ..media.panels import frame_size, letterbox, resize_image, visible_mark
from .source import Source

PANEL = 512
"""Largest height of the panels of `compare`, in pixels."""


class Panels:
    """Layout of an output frame: the result alone, or source, driving frame and result side by side.

    Attributes:
        size: (height, width) of the output.
    """

    def __init__(self, source: Source, compare: bool, size: int | tuple[int, int] | None, mark: bool) -> None:
        self.source, self.compare = source, compare
        height, width = source.photo.shape[:2]
        self.size = (height, width)
        if compare:
            scale = min(1, PANEL / height) if source.pastes else 1
            self.panel = (round(height * scale), round(width * scale))
            self.photo = resize_image(source.photo, self.panel)
            self.size = (self.panel[0], 2 * self.panel[1] + self.panel[0])
        self.size = frame_size(self.size, size)
        self.mark = visible_mark(self.size) if mark else lambda image: image

    def __call__(self, made: Sequence[Image], driving: Sequence[Image]) -> Image:
        """Lay out the squares generated for a driving frame, and that frame, the first of the others."""
        return self.mark(letterbox(self._layout(made, driving), self.size))

    def _layout(self, made: Sequence[Image], driving: Sequence[Image]) -> Image:
        result = self.source.output(made)
        if not self.compare:
            return result
        shown = resize_image(driving[0], (self.panel[0], self.panel[0]))
        return np.concatenate((self.photo, shown, resize_image(result, self.panel)), axis=1)
