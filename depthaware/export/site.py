"""A static page on which a photo follows a camera: exported graphs, the page, and onnxruntime-web."""

import hashlib
import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor, nn

from ..dagan import DaGAN
from ..faces.blazeface import ShortRange, anchor_centers
from ..faces.views import DARKEST, load_network
from ..media.atomic import whole_folder
from .exporter import Exported, export, write_graph
from .facts import FACTS
from .graphs import Graph
from .slimming import slim

NPM = "onnxruntime-web"
RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
MOST_BYTES = 8_000_000  # of all files beside the runtime


def check_runtime(folder: str | Path) -> Path:
    """Find the files of onnxruntime-web in its npm package, or raise ValueError in one line."""
    dist = Path(folder) / "dist"
    for name in RUNTIME:
        if not (dist / name).is_file():
            raise ValueError(f"runtime {str(folder)!r}: expected npm's {NPM} from 1.24 on, found no dist/{name}")
    return dist


def export_site(
    model: DaGAN, folder: str | Path, runtime: str | Path, source_image: Tensor, driving_images: Tensor
) -> Exported:
    """Write the page, with its graphs in int8; no file of it is fetched from elsewhere.

    Args:
        model: on the CPU.
        folder: made if absent; any web server can serve it.
        runtime: folder `node_modules/onnxruntime-web`, of which six files are copied.
        source_image: as of `export`.
        driving_images: as of `export`.

    Raises:
        ValueError: as `export`; if a file of the runtime is missing, or all other files take more than 8 MB.
    """
    dist = check_runtime(runtime)
    with whole_folder(folder, last="index.html") as part:
        found = export(model, part, source_image, driving_images, int8=True)
        for graph in json.loads((part / FACTS).read_text(encoding="utf-8"))["graphs"].values():
            path = part / graph["file"]
            slim(path, path.with_suffix(".gpu.onnx"))
        write_graph(_face_graph(), part / "face.onnx")
        with as_file(files("depthaware")) as package:
            for file in [*(package / "export" / "web").iterdir(), package / "assets" / "portrait.png"]:
                shutil.copy(file, part)
        size = sum(file.stat().st_size for file in part.iterdir())
        if size > MOST_BYTES:
            raise ValueError(f"{folder}: the page takes {size / 1e6:.1f} MB, expected at most {MOST_BYTES / 1e6:.0f}")
        for name in RUNTIME:
            shutil.copy(dist / name, part)
        _stamp(part)
    return found._replace(folder=Path(folder))


class FaceFinder(nn.Module):
    """The short-range network with all that is around it: colors (1, 3, 128, 128), 0 to 255, to candidates (N, 17).

    A candidate is a score, a box, left, top, right and bottom, and six points, in pixels from the top left corner.
    """

    def __init__(self) -> None:
        super().__init__()
        network = load_network("short_range")
        assert isinstance(network, ShortRange)
        self.network, self.centers = network, anchor_centers(network.anchors, network.side, network.side)

    def forward(self, colors: Tensor) -> Tensor:
        logits, offsets = self.network(colors / (colors.max().clamp_min(DARKEST) / 2) - 1)
        middle, half = offsets[0, :, :2] + self.centers, offsets[0, :, 2:4] / 2
        points = offsets[0, :, 4:] + self.centers.repeat(1, 6)
        return torch.cat([logits[0, :, None].sigmoid(), middle - half, middle + half, points], dim=1)


def _face_graph() -> Graph:
    finder = FaceFinder().eval()
    colors = torch.zeros(1, 3, ShortRange.side, ShortRange.side)
    return Graph(torch.export.export(finder, (colors,), strict=False), ["colors"], ["candidates"])


def _stamp(folder: Path) -> None:
    """Write the version of all files into the service worker, which keeps them until the version changes."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    worker = folder / "offline.js"
    text = worker.read_text(encoding="utf-8").replace("@VERSION@", digest.hexdigest()[:16])
    worker.write_text(text, encoding="utf-8")
