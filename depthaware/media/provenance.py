"""The claim that a file was generated: in the comment of a video, and in the XMP of PNG and WebP images.

It uses the words of C2PA and IPTC, but it is not signed: whoever wants to can remove it.
"""

import json
from importlib.metadata import version
from pathlib import Path

import av
from PIL import Image, PngImagePlugin

from .container import open_video
from .signatures import found_in
from .still import open_still

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for images that a trained model generated."""

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'Iptc4xmpExt:DigitalSourceType="{source_type}" xmp:CreatorTool="{tool}"/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)


def tool() -> str:
    """Name and version of this package."""
    return f"depthaware {version('depthaware')}"


def claim() -> str:
    """Make the claim for a video: JSON with the words of a C2PA manifest, about 200 characters."""
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
    assertion = {"label": "c2pa.actions", "data": {"actions": [action]}}
    return json.dumps({"generated": True, "claim_generator": tool(), "assertions": [assertion]})


def xmp() -> bytes:
    """Make the claim for an image."""
    return _XMP.format(source_type=SOURCE_TYPE, tool=tool()).encode()


def png_info() -> PngImagePlugin.PngInfo:
    """Make the claim for Pillow's writer of PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp().decode())
    return info


def mark_gif(path: Path) -> None:
    """Put the claim into a GIF file, as a comment before its first frame."""
    data, text = path.read_bytes(), claim().encode()
    start = 13 + (3 << (data[10] & 7) + 1) * (data[10] >> 7)  # behind the header and the global palette
    blocks = b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))
    path.write_bytes(data[:start] + b"\x21\xfe" + blocks + b"\0" + data[start:])


def mark_webp(path: Path) -> None:
    """Put the claim into a WebP file, as XMP behind its frames, which FFmpeg makes one image if they are all alike."""
    data, text = bytearray(path.read_bytes()), xmp()
    if data[12:16] != b"VP8X":
        with Image.open(path) as image:
            width, height = (side - 1 for side in image.size)
        sides = width.to_bytes(3, "little") + height.to_bytes(3, "little")
        data[12:12] = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + sides
    data[20] |= 4  # has XMP
    data += b"XMP " + len(text).to_bytes(4, "little") + text + b"\0" * (len(text) % 2)
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    path.write_bytes(data)


def read_claim(path: str | Path) -> str | None:
    """Name what generated a file, as far as the file tells; None if it claims nothing.

    Args:
        path: video or image of any kind; a claim of other software is found too, if it has the same words.

    Raises:
        ValueError: if it is neither.
    """
    texts = _image_texts(path) if found_in(path).endswith("image") else _video_texts(path)
    for text in texts:
        if "rainedAlgorithmicMedia" in text or '"generated": true' in text:
            return _generator(text)
    return None


def _generator(text: str) -> str:
    for begin in ('"claim_generator": "', 'CreatorTool="', "<xmp:CreatorTool>"):
        _, found, rest = text.partition(begin)
        if found:
            return rest[: min(i for i in (rest.find('"'), rest.find("<"), len(rest)) if i >= 0)]
    return "unnamed software"


def _image_texts(path: str | Path) -> list[str]:
    try:
        with open_still(path) as image:
            found = [image.info.get(name) for name in ("xmp", "XML:com.adobe.xmp", "comment")]
    except (ValueError, ImportError, MemoryError):
        raise
    except Exception as error:  # damaged files raise nearly any type
        raise ValueError(f"{path}: is damaged or cut short ({error})") from error
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in found if text]


def _video_texts(path: str | Path) -> list[str]:
    with open_video(path) as container:
        streams: list[av.stream.Stream] = list(container.streams)
        return [*container.metadata.values(), *(text for stream in streams for text in stream.metadata.values())]
