"""`depthaware attention`: maps of what the generator attends to."""

import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES
from .common import add_model, check_input, check_weights, load_model, local_config, read_media

if TYPE_CHECKING:
    from ..media.image import Image
    from ..media.video import Video

_MEDIA = files("depthaware") / "assets"


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    parser.add_argument("source", nargs="?", default=str(_MEDIA / "portrait.png"), help="portrait (default: bundled)")
    driving = "image or video with the pose of the result (default: a bundled video)"
    parser.add_argument("driving", nargs="?", default=str(_MEDIA / "driving.mp4"), help=driving)
    points = "query points in pixels of SOURCE (default: eyes, nose and mouth of the face in it, and the background)"
    parser.add_argument("--points", type=_point, nargs="+", metavar="X,Y", help=points)
    parser.add_argument("--frame", type=int, metavar="N", help="of a driving video, from 0 (default: the middle one)")
    mode = "motion of a video, relative from its first frame; that of an image is absolute (default: %(default)s)"
    parser.add_argument("--mode", choices=["relative", "absolute"], default="relative", help=mode)
    over = "image under the maps: the source, where the weighted features come from, or the result (default: source)"
    parser.add_argument("--over", choices=["source", "result"], default="source", help=over)
    fit = "how images become square: the square around the face, the central one, or whole (default: %(default)s)"
    parser.add_argument("--fit", choices=["face", "crop", "pad", "stretch"], default="face", help=fit)
    parser.add_argument("--output", default="attention.png", help=".png, .jpg or .webp (default: %(default)s)")


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"expected x,y in pixels, such as 120,80, got {text!r}") from error
    return x, y


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    check_output(args.output, FIGURE_SUFFIXES, (args.source, args.driving))
    if args.frame is not None and args.frame < 0:
        raise ValueError(f"--frame: expected the number of a frame, from 0, got {args.frame}")
    for path in (args.source, args.driving):
        check_input(path)
    _check_points(args)
    check_weights(args)
    if args.revision is None and local_config(args.weights).get("attention") == "none":
        raise ValueError(f"weights {args.weights!r}: expected a model with attention, their configuration has none")


def _check_points(args: Namespace) -> None:
    """Refuse points outside of the image where Pillow can tell its size, which takes no PyTorch."""
    from ..media.still import open_still

    with open_still(args.source) as image:
        turned = image.getexif().get(0x0112, 1) > 4  # orientation: on its side
        width, height = image.size[::-1] if turned else image.size
    for x, y in args.points or ():
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise ValueError(f"point {x:g},{y:g}: outside of {args.source}, which has {width} x {height} pixels")


def run(args: Namespace) -> str:
    """Draw the maps, and describe what was written."""
    from ..inference.attention_figure import draw_attention
    from ..inference.attention_maps import attention_maps, face_points
    from ..media.image import read_image
    from ..media.panels import write_figure
    from ..media.video import Video

    warnings.filterwarnings("ignore", ".*--initial-frame")  # which is always the first here
    source, media = read_image(args.source), read_media(args.driving, fps=25)
    reference, driving = (None, media) if not isinstance(media, Video) else _frames(media, args.frame)
    points = args.points or face_points(source)
    options = {"fit": args.fit, "reference": reference if args.mode == "relative" else None}
    maps = attention_maps(load_model(args), source, driving, points, **options)
    figure = draw_attention(maps, over=args.over)
    write_figure(args.output, figure)
    places = ", ".join(f"{number} at {x:.0f},{y:.0f}" for number, (x, y) in enumerate(points, start=1))
    return f"{args.output}: {figure.shape[1]} x {figure.shape[0]}, query points {places}"


def _frames(video: "Video", index: int | None) -> "tuple[Image, Image]":
    """First frame, and frame number `index` or the middle one."""
    index = video.frames // 2 if index is None else index
    found = [frame.image for i, frame in enumerate(islice(video, index + 1)) if i in (0, index)]
    if index and len(found) < 2:
        raise ValueError(f"--frame: expected 0 to {video.frames - 1} of {video.path}, got {index}")
    return found[0], found[-1]
