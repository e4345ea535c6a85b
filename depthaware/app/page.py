"""Layout of the page, and which part of the studio answers to what."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from .._optional import require
from ..media.image import Image
from .sessions import Session, Sessions
from .studio import CLIP, PORTRAIT, Controls, Stopped, Studio
from .uploads import Refusal

CONSENT = (
    "Animate a person only with that person's consent. What comes out is **generated**: it shows something that did "
    "not happen. Say so wherever you show it, and do not use it to deceive, to impersonate or to harass."
)
_INTRODUCTION = "# A photo that moves\nA face in a photo follows a face in a video or in front of your camera."
_AT_ONCE = 4  # live views
_LIVE_SECONDS = 600  # after which a live view makes room for others
_KEPT = 3600  # seconds that uploads stay
CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
.note { font-size: 0.9em; opacity: 0.85; }
.screen video { height: 100% !important; object-fit: contain; }
button[aria-label="Trim video"] { display: none !important; }
#camera-trouble:empty, #camera-trouble:not(:has(p)) { display: none !important; }
footer { display: none !important; }
"""
HEAD = """<script>
const sentences = {
  NotAllowedError: "Your browser keeps the camera from this page. Allow it beside the address, then try again.",
  NotFoundError: "No camera was found. Plug one in or turn it on, then try again.",
  NotReadableError: "The camera is used by another program. Close that program, then try again.",
};
const say = (text) => {
  const place = document.querySelector("#camera-trouble");
  if (place) place.innerHTML = text ? `<p role="alert">${text}</p>` : "";
};
const media = navigator.mediaDevices;
if (media) {
  const ask = media.getUserMedia.bind(media);
  media.getUserMedia = async (wanted) => {
    try {
      const stream = await ask(wanted);
      say("");
      return stream;
    } catch (error) {
      say(sentences[error.name] ?? "The camera does not work. Unplug it, plug it in again, then try again.");
      throw error;
    }
  };
} else {
  addEventListener("click", () => say("Browsers give the camera only to pages at 127.0.0.1 or over https."));
}
</script>"""


def build_page(studio: Studio, cache: Path, *, every: float = 0.1) -> Any:
    """Build the page.

    Args:
        studio: does the work.
        cache: folder of all files of the page, Gradio's own among them: that of `GRADIO_TEMP_DIR`.
        every: seconds between frames of the camera.

    Returns:
        `gradio.Blocks`.
    """
    gr: Any = require("gradio", "app")
    from gradio import Request, SelectData
    from gradio.data_classes import Base64ImageData

    sessions = Sessions(cache)

    def mine(request: Request) -> Session:
        return sessions(str(request.session_hash))

    @contextmanager
    def telling() -> Iterator[None]:
        try:
            yield
        except Refusal as error:
            raise gr.Error(str(error), title="Not possible", duration=None, print_exception=False) from error
        except MemoryError as error:
            raise gr.Error("This is too much for the memory of the server.", print_exception=False) from error

    def make_video(
        photo: str,
        driving: str,
        compare: bool,
        strength: float = 1,
        head: float = 1,
        expression: float = 1,
        freeze: bool = False,
        request: Request = None,  # type: ignore[assignment]
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> str | None:
        progress(0, desc="Looking for faces")

        def show(done: int, total: int) -> None:
            progress((done, total), unit="frames", desc="Animating")

        with telling():
            try:
                controls = Controls(strength, head, expression, freeze)
                made = studio.video(mine(request), photo, driving, compare=compare, controls=controls, progress=show)
                return str(made)
            except Stopped:
                return None

    def stop(request: Request) -> None:
        mine(request).stopped.set()

    def show_live(frame: Image | None, photo: str, request: Request) -> Image | None:
        with telling():
            return None if frame is None else studio.live(mine(request), photo, frame)

    def restart(request: Request) -> None:
        studio.restart(mine(request))

    def show_depth(photo: str, request: Request) -> tuple[Image, str]:
        with telling():
            depth = studio.depth(mine(request), photo)
            return depth.gray, str(depth.cloud)

    def show_attention(photo: str, event: SelectData) -> tuple[Image, str]:
        with telling():
            heat, gate = studio.attention(photo, *event.index)
            return heat, f"The brighter, the more of it is used. Attention is added with the factor {gate:.2g}."

    def leave(request: Request) -> None:
        sessions.forget(str(request.session_hash))

    def new_photo(value: str | None = None) -> Any:
        """Make an image whose file is read by `read_image`, so that refusals are ours."""
        photo = gr.Image(value, label="Photo", sources=["upload", "clipboard"], type="filepath", height=320)
        photo.preprocess = lambda payload: payload and payload.path
        return photo

    def new_live() -> Any:
        """Make an image that is sent as it is, not through a file for each frame."""
        image = gr.Image(label="Generated, live", interactive=False, height=320, buttons=["fullscreen"])
        image.postprocess = lambda value: value if value is None else Base64ImageData(url=_jpeg_url(value))
        return image

    page = gr.Blocks(title="depthaware", analytics_enabled=False, delete_cache=(600, _KEPT))
    with page:
        gr.Markdown(_INTRODUCTION)
        gr.Markdown(CONSENT, elem_classes="note")
        with gr.Tab("Video"):
            with gr.Row():
                photo = new_photo()
                driving = gr.Video(label="Video", sources=["upload", "webcam"], height=320, elem_classes="screen")
                result = gr.Video(
                    label="Generated", interactive=False, autoplay=True, loop=True, height=320, elem_classes="screen"
                )
            compare = gr.Checkbox(label="Show photo, video and result side by side")
            with gr.Accordion("Motion", open=False):
                with gr.Row():
                    sliders = [
                        gr.Slider(0, 3, 1, step=0.05, label=label, min_width=200)
                        for label in ("Strength of all motion", "Head", "Expression")
                    ]
                freeze = gr.Checkbox(label="Keep the background of the photo at rest")
            with gr.Row():
                go = gr.Button("Animate", variant="primary", min_width=120, scale=3)
                end = gr.Button("Stop", min_width=80)
            gr.Examples([[PORTRAIT, CLIP]], [photo, driving], label="Example: click it, then Animate")
            limits = studio.limits
            gr.Markdown(
                f"Videos of up to {limits.seconds:g} seconds, files of up to {limits.megabytes} MB. Your files stay on "
                f"the machine that runs this page, and are deleted there after {_KEPT // 60} minutes; results when you "
                "close the page.",
                elem_classes="note",
            )
            go.click(
                make_video, [photo, driving, compare, *sliders, freeze], result, concurrency_limit=1, api_name="video"
            )
            end.click(stop, queue=False, api_visibility="private")
        with gr.Tab("Webcam"):
            gr.HTML(elem_id="camera-trouble")
            with gr.Row():
                live_photo = new_photo(PORTRAIT)
                camera = gr.Image(label="Camera", sources=["webcam"], streaming=True, height=320)
                live = new_live()
            again = gr.Button("Start again from my present pose")
            gr.Markdown(
                "Look into the camera as the person in the photo does, then start it. If nothing moves, your face is "
                f"not seen: come closer, or turn on a light. A live view ends after {_LIVE_SECONDS // 60} minutes.",
                elem_classes="note",
            )
            camera.stream(
                show_live,
                [camera, live_photo],
                live,
                show_progress="hidden",
                stream_every=every,
                time_limit=_LIVE_SECONDS,
                concurrency_limit=_AT_ONCE,
                api_visibility="private",
            )
            again.click(restart, queue=False, api_visibility="private")
        with gr.Tab("Depth", visible=studio.model.depth_net is not None):
            buttons, attends = ["download", "fullscreen"], studio.model.generator.attention is not None
            with gr.Row():
                still = new_photo(PORTRAIT)
                gray = gr.Image(label="Depth", interactive=False, height=320, buttons=buttons)
                heat = gr.Image(label="Attention", interactive=False, height=320, buttons=buttons, visible=attends)
            click = "**Click on the face** in the photo to see what the model attends to."
            told = gr.Markdown("In the depth, bright is near. " + click * attends)
            estimate = gr.Button("Estimate depth", variant="primary")
            cloud = gr.Model3D(
                label="Points in space: drag to turn", display_mode="point_cloud", camera_position=(80, 90, None)
            )
            shared: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "stills"}
            estimate.click(show_depth, still, [gray, cloud], api_name="depth", **shared)
            if attends:
                still.select(show_attention, still, [heat, told], api_visibility="private", **shared)
        gr.Markdown(f"Made with depthaware {version('depthaware')}, after DaGAN (CVPR 2022).", elem_classes="note")
        page.unload(leave)
    return page.queue(max_size=50)


def _jpeg_url(image: Image) -> str:
    """Encode pixels, uint8 (H, W, 3), as an address that holds them."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
