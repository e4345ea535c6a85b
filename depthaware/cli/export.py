"""`depthaware export`: export a model for ONNX Runtime, OpenVINO, PyTorch or a web page."""

from argparse import ArgumentParser, Namespace
from importlib.resources import files
from pathlib import Path

from .common import check_video, check_weights

_MEDIA = files("depthaware") / "assets"
_FRAMES = 32


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--weights", default="dagan-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub repository")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="for `animate --backend`")
    formats = ["onnx", "openvino", "torch", "web"]
    parser.add_argument("--format", choices=formats, default="onnx", help="(default: %(default)s)")
    runtime = "npm's onnxruntime-web, for --format web (default: %(default)s)"
    parser.add_argument("--runtime", metavar="FOLDER", default="node_modules/onnxruntime-web", help=runtime)
    size = "side of the images in pixels (default: that of the weights' training)"
    parser.add_argument("--size", type=int, metavar="N", help=size)
    parser.add_argument("--int8", action="store_true", help="quantize for the CPU; not torch")
    video = "real frames to check and calibrate with (default: a bundled clip)"
    clip = str(_MEDIA / "driving.mp4")
    parser.add_argument("--calibrate", "--calibration", metavar="VIDEO", default=clip, help=video)


def check(args: Namespace) -> None:
    """Refuse options and paths that cannot work, without PyTorch."""
    if args.size is not None and args.size < 1:
        raise ValueError(f"--size: expected a number of pixels, got {args.size}")
    if args.int8 and args.format == "torch":
        raise ValueError("format: expected onnx, openvino or, unless int8, torch, got 'torch'")
    if args.format == "web" and not Path(args.runtime, "dist").is_dir():
        raise ValueError(f"--runtime {args.runtime!r}: there is no such npm package, run `npm install onnxruntime-web`")
    if Path(args.output).is_file():
        raise ValueError(f"output {args.output!r}: is a file, expected a folder")
    check_video(args.calibrate)
    check_weights(args)


def run(args: Namespace) -> str:
    """Export, and describe what was written and its difference from the model."""
    from itertools import islice

    import torch

    from ..dagan import DaGAN
    from ..export.exporter import export
    from ..media.image import fit_square, read_image
    from ..media.video import read_video

    video = read_video(args.calibrate)
    model = DaGAN.from_pretrained(args.weights, revision=args.revision)
    size = model.image_size if args.size is None else args.size
    step = max(video.frames // _FRAMES, 1)
    driving = [fit_square(frame.image, size) for frame in islice(video, 0, _FRAMES * step, step)]
    source = fit_square(read_image(str(_MEDIA / "portrait.png")), size)
    if args.format == "web":
        from ..export.site import export_site

        return str(export_site(model, args.output, args.runtime, source, torch.cat(driving)))
    return str(export(model, args.output, source, torch.cat(driving), format=args.format, int8=args.int8))
