"""Names of cameras, without opening them."""

import sys
from pathlib import Path

_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's reader of cameras on each system."""


def input_device(name: str) -> tuple[str, str] | None:
    """Tell how FFmpeg opens a camera: its format and its name for the device.

    Args:
        name: number of a camera, path of a device (/dev/video2), or video=NAME on Windows.

    Returns:
        None if it is none of these, but may be a file.

    Raises:
        ValueError: if there is no such camera, with those that there are.
    """
    if name.startswith("video="):
        return "dshow", name
    format = _FORMATS.get(sys.platform, "v4l2")
    if name.isascii() and name.isdecimal() and format != "v4l2":
        return format, name
    device = Path(f"/dev/video{name}" if name.isascii() and name.isdecimal() else name)
    if device.is_char_device():
        return "v4l2", str(device)
    if device.parent == Path("/dev"):
        found = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise ValueError(f"camera {name}: expected a camera or a video file, there is no {device}, found {found}")
    return None
