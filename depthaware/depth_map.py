"""Depth of pictures and videos as something to look at: grey images, grey videos, point clouds."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .dagan import DaGAN
from .geometry import backproject, disparity_to_depth
from .image import Image, to_tensor, to_uint8, write_image, write_ply
from .output import check_output
from .video import Frame, Progress, Video, Written, write_video


@torch.inference_mode()
def estimate_disparity(model: DaGAN, image: Image) -> Tensor:
    """Disparity of a picture of any shape, seen by the model at about the size that it was trained on.

    Args:
        model: any with a depth network.
        image: uint8 (H, W, 3).

    Returns:
        (1, 1, H, W) in (0, 1).

    Raises:
        ValueError: if the model has no depth network.
    """
    if model.depth_net is None:
        raise ValueError(f"depth: these weights have no depth network, their configuration is {model.config}")
    pixels = to_tensor(image)
    scale = model.image_size / min(pixels.shape[-2:])
    # The network halves five times; four times as long as wide is as far as it makes sense to go.
    size = [min(max(round(side * scale / 32) * 32, 64), 4 * model.image_size) for side in pixels.shape[-2:]]
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True).to(next(model.parameters()).device)
    return F.interpolate(model.depth_net(small, scales=1)[0], pixels.shape[-2:], mode="bilinear")


def grey_painter(model: DaGAN, reference: Image) -> Callable[[Image], Tensor]:
    """A function that paints disparity in grey, bright = near.

    Black and white are the farthest and nearest of the reference; stretching each frame by itself would flicker.

    Args:
        model: any with a depth network.
        reference: uint8 (H, W, 3), the picture itself or the first of a video.

    Returns:
        Function from uint8 (H, W, 3) to (1, 1, H, W) in [0, 1].
    """
    low, high = estimate_disparity(model, reference).aminmax()
    return lambda image: ((estimate_disparity(model, image) - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def point_cloud(model: DaGAN, image: Image) -> np.ndarray:
    """One point a pixel, as a camera whose focal length is the picture's longer side would see it.

    Args:
        model: any with a depth network.
        image: uint8 (H, W, 3).

    Returns:
        (H W, 3), x right, y up, z towards the viewer, in the depth network's arbitrary unit.
    """
    height, width = image.shape[:2]
    focal = float(max(height, width))
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    points = backproject(disparity_to_depth(estimate_disparity(model, image).cpu()), K[None])
    return (points[0].flatten(1).T * torch.tensor([1.0, -1.0, -1.0])).numpy()


def depth_to_file(
    model: DaGAN, media: Image | Video, output: str | Path, *, progress: Progress = lambda done, total: None
) -> Written:
    """Write the depth of a picture (.png, 16-bit grey, or .ply, a coloured point cloud) or of a video (.mp4).

    Args:
        model: any with a depth network.
        media: from `read_image` or `read_video`.
        output: where to; bright = near.
        progress: called with the numbers of frames done and in all.
    """
    if isinstance(media, Video):
        return _depth_video(model, media, Path(output), progress)
    check_output(output, (".png", ".ply"))
    if Path(output).suffix.lower() == ".ply":
        write_ply(output, point_cloud(model, media), media.reshape(-1, 3))
    else:
        grey = grey_painter(model, media)(media)[0, 0].cpu().numpy()
        write_image(output, np.rint(grey * 65535).astype(np.uint16))
    return Written(Path(output), 1, media.shape[:2], Fraction(0))


def _depth_video(model: DaGAN, video: Video, output: Path, progress: Progress) -> Written:
    check_output(output, (".mp4",), others=(video.path,))
    paint = grey_painter(model, next(iter(video)).image)
    with write_video(output, video.size, video.rate, video.time_base) as write:
        for count, frame in enumerate(video, start=1):
            write(Frame(to_uint8(paint(frame.image))[0], frame.time))
            progress(count, video.frames)
    return Written(output, count, video.size, video.rate)
