"""MkDocs hook: the folder demo becomes the live demo, if `depthaware export --format web --output demo` has made it."""

import shutil
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1] / "demo"
LINK = '<a class="md-button md-button--primary" href="../demo/">Try it: your photo, your camera, this browser</a>'


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Put the link where the page says so."""
    return markdown.replace("<!-- demo -->", LINK if DEMO.is_dir() else "")


def on_post_build(config: Any, **kwargs: Any) -> None:
    """Copy the demo beside the pages."""
    if DEMO.is_dir():
        shutil.copytree(DEMO, Path(config["site_dir"]) / "demo", dirs_exist_ok=True)
