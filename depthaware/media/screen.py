"""Windows and virtual cameras, which show image after image."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._optional import require
from .image import Image
from .video import Frame

Show = Callable[[Image, str], str]
"""Shows an image, uint8 (H, W, 3), under a title; returns the keys pressed since then, "q" if it was closed."""

Use = Callable[[Frame], None]
"""Takes frame after frame: a recording, or a virtual camera."""


@contextmanager
def open_window(size: tuple[int, int]) -> Iterator[Show]:
    """Open a window for images of `size`, (height, width); it scales them as it is resized.

    Raises:
        ImportError: without the extra `live`.
        ValueError: if there is no screen.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    pygame = require("pygame", "live")
    try:
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":  # SDL's choice where there is no screen
            raise pygame.error("SDL draws off screen")
        warnings.filterwarnings("ignore", "no fast renderer")  # images are small
        surface = pygame.display.set_mode(size[::-1], pygame.RESIZABLE | pygame.SCALED)
    except pygame.error as error:
        pygame.display.quit()
        raise ValueError(f"display: there is no screen here ({error}), expected --display none") from error

    def show(image: Image, title: str) -> str:
        surface.blit(pygame.image.frombuffer(image, size[::-1], "RGB"), (0, 0))
        pygame.display.flip()
        pygame.display.set_caption(title)
        keys = ""
        for event in pygame.event.get():
            keys += "q" if event.type == pygame.QUIT else event.unicode if event.type == pygame.KEYDOWN else ""
        return keys

    try:
        yield show
    finally:
        pygame.display.quit()


@contextmanager
def open_virtual_camera(size: tuple[int, int], rate: float) -> Iterator[Use]:
    """Open a camera that other programs see, for frames of `size`, (height, width), with pyvirtualcam.

    Raises:
        ImportError: without pyvirtualcam.
        ValueError: if the system offers none.
    """
    pyvirtualcam = require("pyvirtualcam", pip="pyvirtualcam")
    try:
        camera = pyvirtualcam.Camera(width=size[1], height=size[0], fps=rate)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--virtual-camera: expected v4l2loopback or OBS, found none ({reason})") from error
    with camera:
        yield lambda frame: camera.send(frame.image)
