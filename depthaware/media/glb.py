"""Colored point clouds as binary glTF, which phones, browsers and office programs show without further software."""

import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .atomic import whole_file

_POINTS, _VERTICES, _FLOAT = 0, 34962, 5126  # enumerations of glTF


def write_glb(path: str | Path, points: npt.NDArray[np.float32], colors: npt.NDArray[np.uint8]) -> None:
    """Write a colored point cloud as binary glTF 2.0.

    Args:
        path: ends in .glb by custom.
        points: (N, 3), x right, y up, z towards the viewer, as in glTF.
        colors: (N, 3), sRGB; in the file they are linear floats, as glTF has them.

    Reference:
        Khronos Group 2021, glTF 2.0 Specification, sections 3.7.2 and 4.4.
    """
    position = np.ascontiguousarray(points, "<f4")
    color = _linear(np.arange(256) / 255).astype("<f4")[colors]
    chunks = [position.tobytes(), color.tobytes()]
    low, high = ([float(x) for x in bound] for bound in (position.min(axis=0), position.max(axis=0)))
    accessor = {"count": len(points), "componentType": _FLOAT, "type": "VEC3"}
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(chunk), "target": _VERTICES}
        for start, chunk in zip((0, len(chunks[0])), chunks, strict=True)
    ]
    attributes = {"POSITION": 0, "COLOR_0": 1}
    scene = {
        "asset": {"version": "2.0", "generator": "depthaware"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "mode": _POINTS, "material": 0}]}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "accessors": [accessor | {"bufferView": 0, "min": low, "max": high}, accessor | {"bufferView": 1}],
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, chunks))}],
    }
    with whole_file(path) as part:
        part.write_bytes(_container(json.dumps(scene, separators=(",", ":")).encode(), b"".join(chunks)))


def _linear(srgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Undo the transfer curve of sRGB (IEC 61966-2-1), values in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _container(text: bytes, binary: bytes) -> bytes:
    """Header and the chunks JSON and BIN, each filled up to a multiple of four bytes."""
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
