"""Options of `depthaware animate`."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from ..media.formats import OUTPUT_SUFFIXES
from .common import add_encoding, add_fps, add_model


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_fps(parser)
    parser.add_argument("paths", nargs="*", metavar="FILE", help="SOURCE, DRIVING and OUTPUT, instead of these options")
    source = "portraits, folder or pattern of them (default: a bundled one)"
    parser.add_argument("-s", "--source", nargs="+", metavar="IMAGE", help=source)
    driving = (
        "videos, folder or pattern of them; 'frames/*.png' or a folder of frames is one; motion of --save-motion; an "
        "image (default: a bundled video)"
    )
    parser.add_argument("-d", "--driving", nargs="+", metavar="VIDEO", help=driving)
    output = (
        "video, .mp4 .mov .webm .gif .webp, images frames/%%04d.png, or a folder for several results, of which those "
        "that are there are skipped (default: animation.mp4)"
    )
    parser.add_argument("-o", "--output", help=output)
    parser.add_argument("--format", choices=[name[1:] for name in OUTPUT_SUFFIXES], help="in a folder (default: mp4)")
    parser.add_argument("--overwrite", action="store_true", help="do not skip results that are in the folder")
    add_encoding(parser)
    parser.add_argument("--mode", choices=["relative", "absolute"], default="relative", help="(default: %(default)s)")
    parser.add_argument("--no-adaptive-scale", action="store_true", help="do not scale motion by the size of the faces")
    initial = "driving frame with the pose of the source: auto is the first with a good face (default: %(default)s)"
    parser.add_argument(
        "--initial-frame", type=_index("auto", "best"), default="auto", metavar="auto|best|N", help=initial
    )
    fit = "face crops both around the face, the others look for none (default: %(default)s)"
    parser.add_argument("--fit", choices=["face", "crop", "pad", "stretch"], default="face", help=fit)
    face = "faces of the source that move, N from left to right, from 0 (default: %(default)s)"
    parser.add_argument("--face", type=_index("largest", "all"), default="largest", metavar="largest|all|N", help=face)
    parser.add_argument("--follow", action="store_true", help="let the crop of the driving video follow the head")
    parser.add_argument("--no-paste", action="store_true", help="write the generated square alone")
    size = "longer side of the output at most, in pixels (default: %(default)s)"
    parser.add_argument("--max-size", type=int, default=1920, metavar="N", help=size)
    resolution = "side of the generated square, a multiple of the trained size, such as 512; motion keeps that size"
    parser.add_argument("--resolution", type=int, metavar="N", help=resolution)
    parser.add_argument("--no-scenes", action="store_true", help="look for no cuts in the driving video")
    parser.add_argument("--smooth", action="store_true", help="smooth the motion over time")
    strength = "factor of all motion, 0 to 3 (default: %(default)s)"
    parser.add_argument("--strength", type=float, default=1.0, metavar="X", help=strength)
    head = "factor of the motion of the head alone, 0 to 3 (default: %(default)s)"
    parser.add_argument("--head", type=float, default=1.0, metavar="X", help=head)
    expression = "factor of the expression alone, 0 to 3 (default: %(default)s)"
    parser.add_argument("--expression", type=float, default=1.0, metavar="X", help=expression)
    parser.add_argument("--freeze-background", action="store_true", help="keep the background of the source at rest")
    dtype = "compute dtype of the networks (default: bfloat16 where the device has it natively, else float32)"
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help=dtype)
    gain = "compile the network first, which takes minutes; seldom pays on a CPU, see the benchmarks"
    parser.add_argument("--compile", action="store_true", help=gain)
    backend = (
        "onnxruntime and openvino (--device CPU, GPU, NPU or AUTO) run a folder made by `depthaware export`: --weights "
        "FOLDER; auto measures a few frames and takes the fastest that draws the same (default: %(default)s)"
    )
    known = ["torch", "onnxruntime", "openvino", "auto"]
    parser.add_argument("--backend", choices=known, default="torch", help=backend)
    graphs = "exports of the same weights that --backend auto tries besides PyTorch"
    parser.add_argument("--graphs", nargs="+", metavar="FOLDER", default=[], help=graphs)
    parser.add_argument("--batch-size", type=int, default=8, help="frames at a time (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="show source, driving frame and result side by side")
    parser.add_argument("--save-depth", metavar="MP4", help="also write the disparity of the result")
    motion = "also write the motion, which as --driving spares reading the video again"
    parser.add_argument("--save-motion", metavar="SAFETENSORS", help=motion)
    parser.add_argument("--mark", action="store_true", help='write "AI-generated" into the lower left corner')
    audio = "sound of the result: driving, source, none or a file (default: driving)"
    parser.add_argument("--audio", metavar="driving|source|none|FILE", help=audio)


def _index(*names: str) -> Callable[[str], int | str]:
    def parse(text: str) -> int | str:
        if text not in names and not text.isdecimal():
            raise ArgumentTypeError(f"expected {', '.join(names)} or a number from 0, got {text!r}")
        return text if text in names else int(text)

    return parse
