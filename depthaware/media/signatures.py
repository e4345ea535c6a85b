"""Kinds of files by their first bytes, whatever their names: for errors that say what was found."""

import os
import re
import stat
from pathlib import Path

_READ = "PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP, GIF, JPEG 2000, PPM, TGA, ICO, PSD"
_HEAD = 4096  # bytes that are looked at
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0\x10\0\0\0CR": "a raw photo of a camera",
    b"FUJIFILM": "a raw photo of a camera",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"II+\0": "a TIFF image",
    b"MM\0+": "a TIFF image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\1\0": "an ICO image",
    b"8BPS": "a PSD image",
    b"qoif": "a QOI image",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"v/1\1": "an OpenEXR file",
    b"#?RADIANCE": "a Radiance HDR file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"FLV": "a Flash video",
    b"0&\xb2u\x8ef\xcf\x11": "a Windows Media video",
    b"\0\0\1\xba": "an MPEG video",
    b"\0\0\1\xb3": "an MPEG video",
    b"\0\0\0\1": "a raw video stream",
    b"OggS": "an Ogg video or sound",
    b"ID3": "an MP3 sound",
    b"fLaC": "a FLAC sound",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile",
    b"\xd0\xcf\x11\xe0": "a Microsoft Office document",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "a PyTorch checkpoint",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"SQLite": "a database",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}
_TEXTS = {
    r"version https://git-lfs": "a Git LFS pointer",
    r"(<!--.*?-->|<\?xml.*?\?>|\s)*<(!doctype )?html|<(head|body|script|title|meta)\b": "a web page",
    r"(<!--.*?-->|<\?xml.*?\?>|<!doctype.*?>|\s)*<svg": "an SVG drawing",
    r"#EXTM3U|ffconcat|(<\?xml.*?\?>|<!--.*?-->|\s)*<MPD": "a playlist, which names other files",
    r"v=0\s": "a session description (SDP), which names an address",
    r"\[InternetShortcut\]": "a link",
    r"[{\[<]": "text",
}


def is_pipe(path: str | Path) -> bool:
    """Tell a pipe or device, which would make its reader wait or never end, from a file or folder.

    Raises:
        OSError: if there is no such path.
    """
    mode = os.stat(path).st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_regular(path: str | Path) -> None:
    """Raise ValueError for a pipe or device."""
    if is_pipe(path):
        raise ValueError(f"{path}: is a pipe or device, expected a file")


def found_in(path: str | Path) -> str:
    """Describe a file by its first bytes, as a noun phrase: "a PNG image", "a web page", "a Git LFS pointer".

    Raises:
        OSError: if it cannot be opened.
    """
    if is_pipe(path):
        return "a pipe or device"
    with open(path, "rb") as file:
        return _describe(file.read(_HEAD))


def refusal(found: str) -> str:
    """Say why a file that was described by `found_in` is not read as an image."""
    if found == "an empty file":
        return "the file is empty"
    if found.endswith("image"):
        return f"is {found}, but damaged, cut short, or of a kind that is not read"
    return f"is {found}, expected an image ({_READ})"


def _describe(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        return _in_boxes(head)
    if head[:4] == b"RIFF":
        return {b"WEBP": "a WebP image", b"AVI ": "an AVI video", b"WAVE": "a WAV sound"}.get(head[8:12], "a RIFF file")
    if head[:2] == b"PK":
        return "a PyTorch checkpoint" if b"/data.pkl" in head[:256] else "a ZIP archive"
    for start, found in _STARTS.items():
        if head.startswith(start):
            return found
    if re.match(rb"P[1-7fF]\s", head):
        return "a PPM image"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "an MPEG transport stream video"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if re.match(rb'.{6}\0\0\{"', head, re.DOTALL):
        return "a safetensors file"
    if re.match(rb"\x80[\2-\5]", head):
        return "a Python pickle"
    return _in_text(head)


def _in_boxes(head: bytes) -> str:
    """Tell images from videos among the descendants of MP4, by their brands; the first is "mif1" for either image."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head)), 4))]
    if {b"avif", b"avis"} & set(brands):
        return "an AVIF image"
    if {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"} & set(brands):
        return "a HEIC image"
    if brands[0] == b"crx ":
        return "a raw photo of a camera"
    return "a QuickTime video" if brands[0] == b"qt  " else "an MP4 video"


def _in_text(head: bytes) -> str:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace")
    if "\0" in text or text.count("\ufffd") > 1 + len(text) // 50:
        return "of an unknown kind"
    for start, found in _TEXTS.items():
        if re.match(start, text.lstrip(), re.IGNORECASE | re.DOTALL):
            return found
    return "text"
