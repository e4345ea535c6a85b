"""`depthaware depth`: estimate the depth of images and videos."""

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.atomic import check_output
from ..media.formats import FIGURE_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.sequence import find_images
from .common import (
    MISTAKES,
    add_fps,
    add_model,
    check_video,
    check_weights,
    choose_device,
    describe,
    progress,
    read_media,
    say,
    telling_memory,
)

if TYPE_CHECKING:
    from ..depth import SelfSupDepthNet
    from ..media.image import Image
    from ..media.video import Video


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    inputs = (
        "image, video, folder of frames or pattern like 'frames/*.png', which is one video; with a folder as --output "
        "any number of them, and every image and video of folders and patterns by itself"
    )
    parser.add_argument("input", nargs="+", help=inputs)
    output = (
        "of an image .png, or .ply or .glb for a point cloud, of a video .mp4, or a folder (default: INPUT_depth.* or "
        "INPUT_turntable.png in the current folder)"
    )
    parser.add_argument("-o", "--output", help=output)
    fit = "whole image, or the square around the face, on which the bundled weights were trained (default: %(default)s)"
    parser.add_argument("--fit", choices=["whole", "face"], default="whole", help=fit)
    parser.add_argument(
        "--compare", action="store_true", help="show the input beside its depth: .png, .jpg, .webp, .mp4"
    )
    turntable = "show the point cloud of an image from several sides: .png, .jpg, .webp, or .mp4 of a moving camera"
    parser.add_argument("--turntable", action="store_true", help=turntable)


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    folder = bool(args.output) and (args.output.endswith(("/", "\\")) or Path(args.output).is_dir())
    args.many = folder or len(args.input) > 1
    if args.many:
        args.input = _find_inputs(args.input)
        if args.output and not folder and Path(args.output).suffix:
            raise ValueError(f"output {args.output!r}: is one file for {len(args.input)} inputs, expected a folder")
        _check_names(args.input)
    else:
        check_video(args.input[0])
        if args.output:
            check_output(args.output, (*_suffixes(args, still=True), ".mp4"), (args.input[0],))
    if args.turntable and args.compare:
        raise ValueError("--compare, --turntable: expected one of them, got both")
    if args.turntable and args.fit == "face":
        raise ValueError("--turntable: shows the whole image, expected no --fit face")
    check_weights(args)


def _find_inputs(words: list[str]) -> list[str]:
    """Every image and video of folders and patterns by itself."""
    found: list[str] = []
    for word in words:
        path = Path(word)
        if path.is_dir() or (set(path.name) & set("*?[") and not path.exists()):
            files = sorted(path.iterdir() if path.is_dir() else path.parent.glob(path.name))
            videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
            images = find_images(path) if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files) else ()
            if not videos and not images:
                raise ValueError(f"{word}: expected images or videos, found none")
            found += [str(file) for file in (*images, *videos)]
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def _check_names(inputs: list[str]) -> None:
    names: dict[tuple[str, bool], str] = {}
    for path in inputs:
        kind = path.lower().endswith(VIDEO_SUFFIXES)
        if (other := names.setdefault((_name(path), kind), path)) != path:
            raise ValueError(f"{other} and {path}: would have one result, expected different names")


def _name(path: str) -> str:
    return re.sub(r"[^\w.-]+", "", Path(path).stem) or "frames"


def _suffixes(args: Namespace, *, still: bool) -> tuple[str, ...]:
    """Possible suffixes of the output."""
    if args.turntable:
        return (*FIGURE_SUFFIXES, ".mp4")
    if not still:
        return (".mp4",)
    return FIGURE_SUFFIXES if args.compare else (".png", ".ply", ".glb")


def run(args: Namespace) -> str:
    """Estimate depth, and describe what was written."""
    from ..depth import SelfSupDepthNet

    device = choose_device(args)

    def load() -> SelfSupDepthNet:
        return SelfSupDepthNet.from_pretrained(args.weights, revision=args.revision).to(device)

    if not args.many:
        path, show = args.input[0], progress(args.quiet, unit="views" if args.turntable else "frames")
        media = read_media(path, args.fps, strict=args.strict)
        return _estimate(args, path, media, args.output or _default(args, path, media), load, show)
    depth_net, folder, show = load(), Path(args.output or "."), progress(args.quiet, unit="files")
    made: dict[str, str] = {}
    failed = 0
    for count, path in enumerate(args.input):
        show(count, len(args.input))
        try:
            with telling_memory():
                folder.mkdir(parents=True, exist_ok=True)
                check_video(path)
                media = read_media(path, args.fps, strict=args.strict)
                output = str(folder / _default(args, path, media))
                if output in made:
                    raise ValueError(f"{path}: would have the result of {made[output]}, expected different names")
                report = _estimate(args, path, media, output, lambda: depth_net, lambda done, total: None)
                made[output] = path
        except MISTAKES as error:
            failed += 1
            say(f"depthaware: error: {path}: {describe(error).removeprefix(f'{path}: ')}", sys.stderr)
        else:
            if not args.quiet:
                say(report)
    summary = f"{folder}: {len(made)} written, {failed} failed"
    if failed:
        raise ValueError(summary)
    return summary


def _default(args: Namespace, path: str, media: "Image | Video") -> str:
    """Name of the result of an input."""
    from ..media.video import Video

    suffix = "mp4" if isinstance(media, Video) else "png"
    return f"{_name(path)}_{'turntable' if args.turntable else 'depth'}.{suffix}"


def _estimate(
    args: Namespace,
    path: str,
    media: "Image | Video",
    output: str,
    load: "Callable[[], SelfSupDepthNet]",
    show: Callable[[int, int], None],
) -> str:
    from ..inference.depth_maps import depth_to_file
    from ..inference.turntable import turntable_to_file
    from ..media.video import Video

    check_output(output, _suffixes(args, still=not isinstance(media, Video)), args.input)
    if not args.turntable:
        return str(depth_to_file(load(), media, output, compare=args.compare, fit=args.fit, progress=show))
    if isinstance(media, Video):
        raise ValueError(f"--turntable: expected an image, {path} is a video")
    return str(turntable_to_file(load(), media, output, progress=show))
