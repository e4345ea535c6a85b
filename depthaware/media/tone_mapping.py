"""High dynamic range (PQ, HLG) as standard range, by a table for FFmpeg's lut3d filter."""

import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorTrc

HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
"""Transfer characteristics of high dynamic range: PQ and HLG."""

WHITE, PEAK, KNEE = 203.0, 1000.0, 0.8
"""Light of paper in nits (ITU-R BT.2408), light that is shown as white, share of white up to which light is kept."""

_SIZE = 33
_BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def add_tone_mapping(graph: av.filter.Graph, transfer: int) -> av.filter.context.FilterContext:
    """Add a filter from RGB of BT.2020 and a transfer characteristic of `HDR` to that of BT.709."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.cube"
        table.write_text(_table(transfer))
        return graph.add("lut3d", file=str(table))  # which reads it at once


@cache
def _table(transfer: int) -> str:
    """Values of the result in the format .cube, red fastest."""
    blue, green, red = np.meshgrid(*[np.linspace(0, 1, _SIZE)] * 3, indexing="ij")
    made = tone_map(np.stack((red, green, blue), axis=-1).reshape(-1, 3), transfer)
    return f"LUT_3D_SIZE {_SIZE}\n" + "\n".join("{:.6f} {:.6f} {:.6f}".format(*row) for row in made)


def tone_map(values: npt.NDArray[np.float64], transfer: int) -> npt.NDArray[np.float64]:
    """Map colors: light up to `KNEE` of white stays, more is compressed by the curve of Reinhard up to `PEAK`.

    All three components are scaled by one factor, that of the largest, so that hues stay.
    Reference: ITU-R BT.2100 tables 4 and 5; Reinhard et al. 2002, eq. 4; ITU-R BT.1886.

    Args:
        values: (N, 3), RGB of BT.2020 in [0, 1].
        transfer: PQ or HLG.

    Returns:
        (N, 3), RGB of BT.709 in [0, 1].
    """
    light = (_pq(values) if transfer == ColorTrc.SMPTE2084 else _hlg(values)) / WHITE
    largest = np.maximum(light.max(axis=1, keepdims=True), 1e-9)
    over, end = (np.maximum(largest, KNEE) - KNEE) / (1 - KNEE), (PEAK / WHITE - KNEE) / (1 - KNEE)
    compressed = KNEE + (1 - KNEE) * over * (1 + over / end**2) / (1 + over)
    light *= np.where(largest > KNEE, compressed, largest) / largest
    return (light @ _BT2020_TO_BT709.T).clip(0, 1) ** (1 / 2.4)


def _pq(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light in nits."""
    powered = values ** (1 / 78.84375)
    return 10000 * (np.maximum(powered - 0.8359375, 0) / (18.8515625 - 18.6875 * powered)) ** (1 / 0.1593017578125)


def _hlg(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light in nits on a display of 1000."""
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = scene @ np.array([[0.2627], [0.6780], [0.0593]])
    return 1000 * scene * luminance**0.2
