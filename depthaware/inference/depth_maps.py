"""Depth visualization: grayscale images, videos and point clouds."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..dagan import DaGAN
from ..depth import SelfSupDepthNet
from ..faces.crop import Crop, face_crop
from ..faces.detector import BlazeFaceDetector
from ..faces.tracking import track_driving
from ..geometry import backproject, disparity_to_depth
from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from ..media.glb import write_glb
from ..media.image import Image, fetch, to_pixels, to_tensor, to_uint8, write_image, write_ply
from ..media.panels import write_figure
from ..media.threads import AHEAD, background, prefetch
from ..media.video import Frame, OutputInfo, Progress, Video, write_video
from .inputs import check_finite

DepthFit = Literal["whole", "face"]


@torch.inference_mode()
def estimate_disparity(model: DaGAN | SelfSupDepthNet, image: Image | Tensor) -> Tensor:
    """Estimate the disparity of images of any shape, at about the resolution that the model was trained on.

    Args:
        model: a depth network, or any model with one.
        image: uint8 (H, W, 3), or floats (B, 3, H, W) in [0, 1].

    Returns:
        (1 or B, 1, H, W) in (0, 1).

    Raises:
        ValueError: if the model has no depth network.
    """
    depth_net = model if isinstance(model, SelfSupDepthNet) else getattr(model, "depth_net", None)
    if depth_net is None:
        raise ValueError(f"depth: these weights have no depth network, their configuration is {model.config}")
    device = next(model.parameters()).device
    pixels = image if isinstance(image, Tensor) else to_tensor(image, device)
    scale = model.image_size / min(pixels.shape[-2:])
    # Multiples of 32, since the network halves five times; very long images are shrunk to a ratio of 4.
    size = [min(max(round(side * scale / 32) * 32, 64), 4 * model.image_size) for side in pixels.shape[-2:]]
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True).to(device)
    return F.interpolate(depth_net(small, num_scales=1)[0], pixels.shape[-2:], mode="bilinear")


def gray_painter(model: DaGAN | SelfSupDepthNet, reference: Image | Tensor) -> Callable[[Image | Tensor], Tensor]:
    """Make a function that maps images to gray disparity, bright = near.

    Black and white are the farthest and nearest point of the reference; a range per frame would flicker.

    Args:
        model: a depth network, or any model with one.
        reference: the image itself or one like those that follow, see `estimate_disparity`.

    Returns:
        Function from the inputs of `estimate_disparity` to (1 or B, 1, H, W) in [0, 1].
    """
    disparity = estimate_disparity(model, reference)
    check_finite(disparity, "depth")
    low, high = disparity.aminmax()
    return _painter(model, float(low), float(high))


def video_painter(
    model: DaGAN | SelfSupDepthNet, images: Iterable[Image], count: int
) -> Callable[[Image | Tensor], Tensor]:
    """Make a `gray_painter` whose black and white fit a whole video.

    They are the percentiles 0.5 and 99.5 of up to 24 frames, evenly spaced. Frames without an image, as before a fade,
    are left out: those whose gray values deviate by less than 8 of 255.

    Args:
        model: a depth network, or any model with one.
        images: the frames, uint8 (H, W, 3).
        count: their number.
    """
    chosen = islice(images, 0, None, max(1, -(-count // 24)))
    ranges: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for image in chosen:
        flat = float(image.std(axis=(0, 1)).mean()) < 8
        disparity = estimate_disparity(model, image).cpu()
        check_finite(disparity, "depth")
        low, high = np.quantile(disparity.numpy(), (0.005, 0.995))
        ranges[flat].append((float(low), float(high)))
    lows, highs = zip(*(ranges[False] or ranges[True]), strict=True)
    return _painter(model, min(lows), max(highs))


def _painter(model: DaGAN | SelfSupDepthNet, low: float, high: float) -> Callable[[Image | Tensor], Tensor]:
    return lambda image: ((estimate_disparity(model, image) - low) / max(high - low, 1e-6)).clamp(0, 1)


def point_cloud(model: DaGAN | SelfSupDepthNet, image: Image) -> np.ndarray:
    """Backproject each pixel, with the focal length of a portrait lens: 1.6 times the longer side of the image.

    Args:
        model: a depth network, or any model with one.
        image: uint8 (H, W, 3).

    Returns:
        (H W, 3), x right, y up, z towards the viewer, in the depth network's arbitrary unit.
    """
    height, width = image.shape[:2]
    focal = 1.6 * max(height, width)  # as in training, see examples/train_depth.py
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    near, far = model.depth_range
    disparity = estimate_disparity(model, image).cpu()
    check_finite(disparity, "depth")
    depth = disparity_to_depth(disparity, min_depth=near, max_depth=far)
    points = backproject(depth, K[None])
    return (points[0].flatten(1).T * torch.tensor([1.0, -1.0, -1.0])).numpy()


def depth_to_file(
    model: DaGAN | SelfSupDepthNet,
    media: Image | Video,
    output: str | Path,
    *,
    compare: bool = False,
    fit: DepthFit = "whole",
    progress: Progress = lambda done, total: None,
) -> OutputInfo:
    """Write the depth of an image (.png, 16-bit gray; .ply or .glb, a colored point cloud) or of a video (.mp4).

    Args:
        model: a depth network, or any model with one.
        media: from `read_image` or `read_video`.
        output: path of the file; bright = near.
        compare: show the input beside its depth, of an image as 8-bit .png, .jpg or .webp.
        fit: "whole" image or frame, or the square around the largest "face", cut out as `animate` does.
        progress: called with the numbers of frames done and in all.
    """
    if isinstance(media, Video):
        return _depth_video(model, media, Path(output), compare, fit, progress)
    check_output(output, FIGURE_SUFFIXES if compare else (".png", ".ply", ".glb"))
    media = _face_image(media) if fit == "face" else media
    suffix, size = Path(output).suffix.lower(), media.shape[:2]
    if suffix in (".ply", ".glb"):
        write_cloud = write_ply if suffix == ".ply" else write_glb
        write_cloud(output, point_cloud(model, media), media.reshape(-1, 3))
        return OutputInfo(Path(output), 1, size, Fraction(0))
    gray = gray_painter(model, media)(media)
    if compare:
        write_figure(output, np.hstack([media, to_uint8(gray)[0]]))
        size = size[0], 2 * size[1]
    else:
        write_image(output, np.rint(gray[0, 0].cpu().numpy() * 65535).astype(np.uint16))
    return OutputInfo(Path(output), 1, size, Fraction(0))


def _depth_video(
    model: DaGAN | SelfSupDepthNet, video: Video, output: Path, compare: bool, fit: DepthFit, progress: Progress
) -> OutputInfo:
    check_output(output, (".mp4",), others=(video.path,))
    crops = _video_crops(video) if fit == "face" else None
    height, width = (_side(crops[0]),) * 2 if crops else video.size

    def frames() -> Iterator[Frame]:
        if not crops:
            return iter(video)
        return (Frame(crop.read(frame.image, width), frame.time) for frame, crop in zip(video, crops, strict=True))

    paint = video_painter(model, (frame.image for frame in frames()), video.frames)
    size = height, width * (2 if compare else 1)
    with ExitStack() as stack:
        write = stack.enter_context(write_video(output, size, video.rate, video.time_base))

        def save(gray: Callable[[], Image], frame: Frame) -> None:
            write(Frame(np.hstack([frame.image, gray()[0]]) if compare else gray()[0], frame.time))

        write_later = stack.enter_context(background(save, AHEAD))
        for count, frame in enumerate(stack.enter_context(prefetch(frames(), AHEAD)), start=1):
            write_later(fetch(to_pixels(paint(frame.image))), frame)
            progress(count, video.frames)
    return OutputInfo(output, count, size, video.rate)


def _face_image(image: Image) -> Image:
    faces = BlazeFaceDetector()([image])[0]
    if not faces:
        warnings.warn("no face found: the depth is that of the whole image", stacklevel=3)
        return image
    crop = face_crop(faces[0])
    return crop.read(image, _side(crop))


def _video_crops(video: Video) -> list[Crop] | None:
    """Square of each frame, of the same size throughout; None without a face."""
    track = track_driving((frame.image for frame in video), BlazeFaceDetector(), scenes=False)
    crops = [crop for crop in track.crops if crop is not None]
    if not crops:
        warnings.warn("no face found: the depth is that of whole frames", stacklevel=4)
    return crops or None


def _side(crop: Crop) -> int:
    return 2 * round(min(crop.side, 2048) / 2)  # even, for the video encoder
