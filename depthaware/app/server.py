"""The page as a server, whose files go with it."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._optional import require
from .page import CSS, HEAD, build_page
from .studio import Studio

_MALLOC = {-1: 1 << 17, -3: 1 << 17, -8: 2}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX of glibc's malloc.h


@contextmanager
def serve(studio: Studio, *, host: str | None = None, port: int | None = None, **options: Any) -> Iterator[str]:
    """Serve the page during the block; its files are deleted at the end.

    Args:
        studio: does the work.
        host: address to listen at; Gradio's default if None: 127.0.0.1, on Spaces 0.0.0.0.
        port: the first free one from 7860 if None.
        options: of `build_page`.

    Yields:
        The address of the page.

    Raises:
        OSError: if the port is taken.
        ImportError: if Gradio is not installed.
    """
    gr = require("gradio", "app")
    _return_memory()
    with tempfile.TemporaryDirectory(prefix="depthaware-app-", ignore_cleanup_errors=True) as folder, _cache_in(folder):
        page = build_page(studio, Path(folder), **options)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                max_file_size=studio.limits.megabytes * 1_000_000,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=CSS,
                head=HEAD,
            )
            yield page.local_url
        except OSError as error:
            if "empty port" not in str(error):
                raise
            place = f"{host or '127.0.0.1'}:{port or '7860 and those after it'}"
            raise OSError(f"cannot listen at {place}: taken, or no address of this machine") from error
        finally:
            page.close(verbose=False)


def _return_memory() -> None:
    """Let glibc give back at once what is freed: kept for each of the many threads, it grows with the visitors."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in _MALLOC.items():
            library.mallopt(option, value)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Let Gradio keep its files in a folder."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        os.environ.pop("GRADIO_TEMP_DIR")
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before
