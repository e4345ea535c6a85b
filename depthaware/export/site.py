"""A static page on which a photo follows a camera: exported graphs, the page, and onnxruntime-web."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from torch import Tensor

from ..dagan import DaGAN
from ..media.atomic import whole_folder
from .exporter import Exported, export

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
MOST_BYTES = 8_000_000


def check_runtime(folder: str | Path | None) -> Path:
    """Find the files of onnxruntime-web in its npm package, or raise ValueError in one line."""
    if folder is None:
        raise ValueError("--format web: expected --runtime FOLDER, that of `npm install onnxruntime-web`")
    dist = Path(folder) / "dist"
    for name in RUNTIME:
        if not (dist / name).is_file():
            raise ValueError(
                f"--runtime {str(folder)!r}: expected npm's onnxruntime-web, found no dist/{name}"
            )
    return dist


def export_site(
    model: DaGAN, folder: str | Path, runtime: str | Path, source_image: Tensor, driving_images: Tensor
) -> Exported:
    """Write the page, with its graphs in int8; no file of it is fetched from elsewhere.

    Args:
        model: on the CPU.
        folder: made if absent; any web server can serve it.
        runtime: folder `node_modules/onnxruntime-web`, of which three files are copied.
        source_image: as of `export`.
        driving_images: as of `export`.

    Raises:
        ValueError: as `export`; if a file of the runtime is missing, or the graphs take more than 8 MB.
    """
    dist = check_runtime(runtime)
    with whole_folder(folder, last="index.html") as part:
        found = export(model, part, source_image, driving_images, int8=True)
        size = sum(file.stat().st_size for file in part.glob("*.onnx"))
        if size > MOST_BYTES:
            raise ValueError(f"{folder}: the graphs take {size / 1e6:.1f} MB, expected at most 8 for a page")
        with as_file(files("depthaware.export") / "web") as page:
            for file in page.iterdir():
                shutil.copy(file, part)
        for name in RUNTIME:
            shutil.copy(dist / name, part)
    return found._replace(folder=Path(folder))
