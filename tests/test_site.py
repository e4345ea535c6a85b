"""The page without a server: its files, and the page itself in a browser (marked `browser`)."""

import base64
import functools
import io
import json
import os
import re
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import torch

import depthaware
from depthaware import DaGAN, read_image, read_video
from depthaware.cli.main import main
from depthaware.export import site as sites
from depthaware.export.runtimes import ExportedDaGAN
from depthaware.faces import BlazeFaceDetector
from depthaware.faces.crop import Crop, face_crop
from depthaware.faces.paste import Paste, _opacity
from depthaware.faces.views import View, look
from depthaware.inference import AnimateOptions
from depthaware.inference.source import Source
from depthaware.keypoints import transfer_motion
from depthaware.media.image import fit_square, to_tensor, to_uint8

ROOT = Path(__file__).parents[1]
WEB = Path(sites.__file__).parent / "web"
ASSETS = Path(depthaware.__file__).parent / "assets"
PORTRAIT, CLIP = ASSETS / "portrait.png", ASSETS / "driving.mp4"
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB", ROOT / "node_modules" / "onnxruntime-web"))


def clip_frames(step: int, count: int) -> list[np.ndarray]:
    return [frame.image for frame in islice(read_video(CLIP), 0, step * count, step)]


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a / 255.0 - b / 255.0).mean()))


# Its files.


def test_slim_graphs_compute_what_the_quantized_graph_does_and_share_their_weights(tmp_path):
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from depthaware.export.quantization import quantize
    from depthaware.export.slimming import slim

    torch.manual_seed(0)
    make = onnx.helper
    weights = {"generator.decoder.a": torch.randn(32, 3, 5, 5) / 9, "kp": torch.randn(4, 32, 5, 5) / 30}
    nodes = [
        make.make_node("Conv", ["x", "generator.decoder.a"], ["a"], "first", pads=[2] * 4),
        make.make_node("Relu", ["a"], ["b"], "relu"),
        make.make_node("Conv", ["b", "kp"], ["y"], "second", pads=[2] * 4),
    ]
    x, y = (make.make_tensor_value_info(name, 1, [1, n, 16, 16]) for name, n in (("x", 3), ("y", 4)))
    constants = [onnx.numpy_helper.from_array(weight.numpy(), name) for name, weight in weights.items()]
    graph = make.make_graph(nodes, "two", [x], [y], constants)
    path, twin = tmp_path / "two.onnx", tmp_path / "two.gpu.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10), path)
    images = torch.rand(4, 1, 3, 16, 16)

    def run(file: Path) -> np.ndarray:
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        return np.stack([session.run(None, {"x": image.numpy()})[0] for image in images])

    exact = run(path)
    exact_file = path.rename(tmp_path / "exact.onnx")
    quantize(exact_file, path, ["x"], [(image,) for image in images], ["generator"])
    quantized, large = run(path), path.stat().st_size
    slim(path, twin)
    scale = np.abs(exact).max()
    assert 1e-4 < np.abs(quantized - exact).max() / scale < 0.02
    assert np.abs(run(path) - quantized).max() / scale < 2e-3  # float16
    assert np.abs(run(twin) - exact).max() < 0.9 * np.abs(quantized - exact).max()  # only weights are rounded
    assert not any(node.op_type == "QuantizeLinear" for node in onnx.load(twin).graph.node)
    shared = tmp_path / "two.bin"
    assert shared.stat().st_size < 0.7 * large and twin.stat().st_size < 2000
    assert shared.stat().st_mode == path.stat().st_mode


def test_candidates_of_the_face_graph_are_those_of_the_detector():
    image = read_image(PORTRAIT)
    view = View(0, 0, 2, (128, 128))
    (wanted,) = look([image], [view], 0.9)[0]
    found = sites.FaceFinder()(torch.from_numpy(view.read(image)).float().permute(2, 0, 1)[None])
    best = found[found[:, 0].argmax()].numpy()
    assert best[0] == pytest.approx(wanted.score, abs=1e-4)
    assert np.abs(best[1:5] * 2 - 0.5 - wanted.box).max() < 4  # that is the average of several candidates
    assert np.abs(best[5:].reshape(6, 2) * 2 - 0.5 - wanted.points).max() < 4


def test_every_file_that_the_page_names_is_there_and_icons_have_the_sizes_that_they_claim():
    known = {file.name for file in WEB.iterdir()} | {PORTRAIT.name, *sites.RUNTIME}
    text = {file.name: file.read_text(encoding="utf-8") for file in WEB.iterdir() if file.suffix != ".png"}
    kept = set(re.findall(r'"([\w.-]+\.\w+)"', re.search(r"PAGE = \[(.*?)\]", text["offline.js"], re.DOTALL)[1]))
    named = set(re.findall(r'(?:src|href)="([^":]+)"', text["index.html"]))
    named |= {name for code in text.values() for name in re.findall(r'from "\./([\w.]+)"', code)}
    assert kept | named <= known
    assert named | {"portrait.png", "engine.js"} <= kept
    icons = json.loads(text["manifest.webmanifest"])["icons"]
    for icon in icons:
        assert icon["src"] in known
        if icon["sizes"] != "any":
            assert "{}x{}".format(*PIL.Image.open(WEB / icon["src"]).size) == icon["sizes"]
    assert {"192x192", "512x512"} <= {icon["sizes"] for icon in icons}  # what browsers ask of what can be installed


def test_a_missing_runtime_is_said_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--format", "web", "--output", "site"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'node_modules/onnxruntime-web': there is no such npm package, run `npm install onnxruntime-web`" in error
    (tmp_path / "old" / "dist").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^runtime 'old': expected npm's onnxruntime-web .*, found no dist/ort\.wasm"):
        sites.export_site(None, "site", "old", None, None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_page_that_is_too_large_never_appears(tmp_path, monkeypatch):
    (tmp_path / "npm" / "dist").mkdir(parents=True)
    for name in sites.RUNTIME:
        (tmp_path / "npm" / "dist" / name).write_bytes(b"runtime")

    def export(model, part, *images, int8):
        (part / "export.json").write_text('{"graphs": {"driver": {"file": "driver.onnx"}}}')
        return sites.Exported(part, 64, 0.0, 50.0)

    monkeypatch.setattr(sites, "export", export)
    monkeypatch.setattr(sites, "slim", lambda path, twin: path.write_bytes(b"graph"))
    monkeypatch.setattr(sites, "write_graph", lambda graph, path: path.write_bytes(b"faces"))
    monkeypatch.setattr(sites, "_face_graph", lambda: None)

    def make(folder: str) -> Path:
        return sites.export_site(None, tmp_path / folder, tmp_path / "npm", None, None).folder  # type: ignore[arg-type]

    versions = []
    for content in (b"runtime", b"another"):
        (tmp_path / "npm" / "dist" / sites.RUNTIME[0]).write_bytes(content)
        versions.append(re.search(r'PREFIX \+ "(\w{16})"', (make("site") / "offline.js").read_text())[1])
    assert versions[0] != versions[1]  # or browsers would keep the old files
    written = {path.name for path in (tmp_path / "site").iterdir()}
    assert {*sites.RUNTIME, "index.html", "driver.onnx", "face.onnx"} <= written
    monkeypatch.setattr(sites, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"big: the page takes 0\.\d MB, expected at most"):
        make("big")
    assert not (tmp_path / "big").exists()


# The page in a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium or not (RUNTIME / "dist").is_dir():
        pytest.skip("needs Chromium and onnxruntime-web (npm install onnxruntime-web)")
    fake = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with open(fake, "wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg\n")
        for image in clip_frames(3, 50):
            wide = np.full((480, 640, 3), 90, np.uint8)
            wide[80:400, 160:480] = PIL.Image.fromarray(image).resize((320, 320))
            file.write(b"FRAME\n" + av.VideoFrame.from_ndarray(wide).reformat(format="yuvj420p").to_ndarray().tobytes())
    flags = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as run:
        flags.append(f"--use-file-for-fake-video-capture={fake}")
        browser = run.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Path:
    """The page with the bundled weights; a few frames calibrate it."""
    source = fit_square(read_image(PORTRAIT), 256)
    driving = torch.cat([fit_square(image, 256) for image in clip_frames(15, 10)])
    folder = tmp_path_factory.mktemp("site") / "site"
    sites.export_site(DaGAN.from_pretrained("dagan-tiny"), folder, RUNTIME, source, driving)
    return folder


class Handler(SimpleHTTPRequestHandler):
    """A static host that sends no headers of its own."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}
    missing: tuple[str, ...] = ()

    def do_GET(self) -> None:
        if self.path.strip("/") in self.missing:
            return self.send_error(404)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


def serve(folder: Path, missing: tuple[str, ...] = ()) -> ThreadingHTTPServer:
    handler = type("Some", (Handler,), {"missing": missing})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def address(site):
    server = serve(site)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def opened(browser, address: str, width: int = 390, permissions: tuple[str, ...] = ("camera",)):
    context = browser.new_context(viewport={"width": width, "height": 844}, permissions=permissions)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def pixels(page, canvas: str = "result") -> np.ndarray:
    data = page.evaluate(f"document.getElementById('{canvas}').toDataURL('image/png').split(',')[1]")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.mark.browser
def test_the_photo_moves_fast_enough_offline_too_and_nothing_is_sent(browser, site, address, capsys):
    assert sum(file.stat().st_size for file in site.iterdir() if not file.name.startswith("ort")) <= 8_000_000
    page = opened(browser, address)
    asked: list[tuple[str, str]] = []
    page.on("request", lambda sent: asked.append((sent.method, sent.url)))
    idle = os.getloadavg()[0] < 1.5  # whoever measures runs this file alone on a quiet machine
    assert page.evaluate("crossOriginIsolated")  # by the service worker alone
    start = time.monotonic()
    page.click("#camera")
    page.wait_for_selector("body[data-frames]")
    first = time.monotonic() - start
    seen, rates = [pixels(page)], []
    for _ in range(8):
        page.wait_for_timeout(700)
        seen.append(pixels(page))
        rates.append(float(page.evaluate("document.body.dataset.rate ?? 0")))
    rate, best = np.median(rates[2:]), max(rates)  # without those of the start, when code is still being compiled
    with capsys.disabled():
        state = "quiet" if idle else "loaded"
        print(f"\nfirst frame after {first:.1f} s, {rate:.1f} frames/s, at best {best:.1f}, {state}")
    moved = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(seen)]
    assert max(moved) > 2 and seen[0].std() > 20
    assert not idle or (rate >= 10 and first <= 4)
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    frames = page.evaluate("document.body.dataset.frames")
    page.click("#camera")
    page.wait_for_function("Number(document.body.dataset.frames) > 2")
    assert frames is None and np.abs(pixels(page).astype(int) - pixels(page, "source")).mean() > 0.5
    assert all(method == "GET" and url.startswith((address, f"blob:{address}")) for method, url in asked)
    page.context.close()


@pytest.mark.browser
def test_what_does_not_work_is_said_in_words(browser, site, address, tmp_path):
    page = opened(browser, address, permissions=())
    status = page.locator("#status")
    page.click("#camera")
    status.get_by_text("The camera was not allowed. Please allow it").wait_for()
    (tmp_path / "letter.png").write_bytes(b"%PDF-1.7")
    page.set_input_files("#photo", tmp_path / "letter.png")
    status.get_by_text("letter.png is no photo that this browser can show. Please choose a JPEG").wait_for()
    PIL.Image.effect_noise((400, 300), 60).convert("RGB").save(tmp_path / "sand.jpg")
    page.set_input_files("#photo", tmp_path / "sand.jpg")
    status.get_by_text("No face was found in sand.jpg. Please choose one that shows a face").wait_for()
    for name, sentence in (("NotFoundError", "No camera was found."), ("NotReadableError", "The camera is in use.")):
        refusal = f"Promise.reject(new DOMException('', '{name}'))"
        page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = () => {refusal} }}")
        page.click("#camera")
        status.get_by_text(sentence).wait_for()
    page.context.close()
    server = serve(site, missing=("driver.bin",))
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    page.set_default_timeout(120_000)
    page.locator("#status").get_by_text("A part of this page is missing (driver.bin). Please reload").wait_for()
    page.context.close()
    server.shutdown()


ENGINE = """async ({ photo, frames, backend }) => {
    const image = async (png) => createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
    const worker = new Worker("engine.js", { type: "module" });
    const ask = (task, ...values) => new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => data.error ? reject(new Error(data.error)) : resolve(data.value);
        worker.postMessage({ id: 0, task, values });
    });
    const plain = (pixels) => btoa(Array.from(pixels, (value) => String.fromCharCode(value)).join(""));
    await ask("load", ["detector", "source_encoder", "driver"], 1, backend);
    const { pixels, crop } = await ask("photo", await image(photo)), made = [{ pixels: plain(pixels), crop }];
    for (const frame of frames) {
        const seen = await ask("look", await image(frame), false);
        made.push({ crop: seen.crop, pixels: plain(await ask("draw", seen.moved)) });
    }
    worker.terminate();
    return made;
}"""

OPACITY = """async (place) =>
    Array.from((await import("./crop.js")).opacity(place, { width: 1400, height: 900 }, 256))"""


def engine(page, photo: np.ndarray, frames: list[np.ndarray], backend: str = "wasm"):
    """The square of a photo and the frames made of it, and the crops of photo and frames, by the page's engine."""
    given = [base64.b64encode(png(image)).decode() for image in (photo, *frames)]
    found = page.evaluate(ENGINE, {"photo": given[0], "frames": given[1:], "backend": backend})
    images = [np.frombuffer(base64.b64decode(each["pixels"]), np.uint8).reshape(256, 256, 4)[..., :3] for each in found]
    crops = [Crop((c["x"], c["y"]), c["side"], c["angle"]) for c in (each["crop"] for each in found)]
    return images, crops


def assert_alike(crop: Crop, wanted: Crop) -> None:
    assert np.abs(np.array(crop.center) - wanted.center).max() < 0.03 * wanted.side
    assert abs(crop.side / wanted.side - 1) < 0.04
    assert abs(crop.angle - wanted.angle) < 0.06


@torch.no_grad()
def python_frames(site: Path, square: np.ndarray, squares: list[np.ndarray]) -> list[np.ndarray]:
    """The same graphs by the Python runtime."""
    model = ExportedDaGAN(site)
    source = model.encode_source(to_tensor(square))
    keypoints = [model.detect_keypoints(to_tensor(image)) for image in squares]
    moved = [transfer_motion(source.keypoints, each, keypoints[0]) for each in keypoints]
    return [to_uint8(model.drive(source, each))[0] for each in moved]


@pytest.mark.browser
def test_frames_and_crops_are_those_of_the_python_runtime(browser, site, address):
    page = opened(browser, address)
    portrait, frames = read_image(PORTRAIT), clip_frames(24, 4)
    (square, *made), crops = engine(page, portrait, frames)
    assert np.array_equal(square, portrait)
    assert {(crop.center, crop.side, crop.angle) for crop in crops} == {((127.5, 127.5), 256, 0)}
    wanted = python_frames(site, portrait, frames)
    assert min(map(psnr, made, wanted)) >= 50
    assert max(np.abs(a.astype(int) - wanted[0]).mean() for a in wanted) > 2

    photo = np.full((900, 1400, 3), 120, np.uint8)  # a small face, tilted; in the frames one that moves
    photo[300:480, 900:1080] = PIL.Image.fromarray(portrait).rotate(20, fillcolor=(120, 120, 120)).resize((180, 180))
    wide = [np.roll(np.pad(frame, ((100, 124), (0, 384), (0, 0)), "edge"), 24 * i, 1) for i, frame in enumerate(frames)]
    (square, *made), crops = engine(page, photo, wide)
    assert_alike(crops[0], Source(photo, 256, AnimateOptions()).crops[0])
    assert_alike(crops[1], face_crop(BlazeFaceDetector()([wide[0]])[0][0]))
    wanted = python_frames(site, square, [crop.read(image, 256) for crop, image in zip(crops[1:], wide, strict=True)])
    assert min(map(psnr, made, wanted)) >= 40

    page.set_input_files("#photo", {"name": "photo.png", "mimeType": "image/png", "buffer": png(photo)})
    page.wait_for_function("document.getElementById('result').width === 1024")
    pasted = PIL.Image.fromarray(Paste(photo, crops[:1], 256)([square])).resize((1024, 658), PIL.Image.Resampling.BOX)
    assert psnr(pixels(page), np.asarray(pasted)) >= 45  # moved by one pixel: less
    for crop in (crops[0], Crop((60, 850), 200, 0.1), Crop((699.5, 449.5), 1400, 0)):
        place = dict(zip("xy", map(float, crop.center), strict=True)) | {
            "side": float(crop.side),
            "angle": float(crop.angle),
        }
        found = page.evaluate(OPACITY, place)
        grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1)
        wanted = 255 * _opacity(crop, [], crop.to_image(grid, 256), (900, 1400))
        assert np.abs(np.reshape(found, (256, 256)) - wanted).max() < 1
    page.uncheck("#paste")
    assert np.array_equal(pixels(page), square) and np.array_equal(pixels(page, "source"), square)
    page.context.close()
