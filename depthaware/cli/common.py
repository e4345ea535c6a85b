"""Options and output that several commands share."""

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..media.formats import CODECS, QUALITY
from ..media.memory import NamedMemoryError, is_out_of_memory, lack_of_memory
from ..media.sequence import find_images
from ..media.signatures import check_regular, found_in, refusal
from ..pretrained.locate import CONFIG, find_local
from ..pretrained.small_files import read_object
from .terminal import one_line

MISTAKES = (ValueError, OSError, ImportError, MemoryError)
"""Errors that are told in one line, in `telling_memory`."""

if TYPE_CHECKING:
    import torch

    from ..dagan import DaGAN
    from ..media.image import Image
    from ..media.video import Video


def add_model(parser: ArgumentParser) -> None:
    """Declare the options of the model and its device."""
    parser.add_argument("--weights", default="dagan-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub repository")
    add_device(parser)


def add_device(parser: ArgumentParser) -> None:
    """Declare the device."""
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps (default: cuda if there is one, else cpu)")


def add_fps(parser: ArgumentParser) -> None:
    """Declare the frame rate of folders of images, which have none of their own, and the way with damaged videos."""
    parser.add_argument("--fps", type=float, default=25, help="of a folder of images (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="refuse damaged videos; else damaged frames are left out")


def add_encoding(parser: ArgumentParser) -> None:
    """Declare the codec, quality and size of a written video."""
    known = "; ".join(f"{suffix} {', '.join(names)}" for suffix, names in CODECS.items() if len(names) > 1)
    codecs = sorted({name for names in CODECS.values() for name in names if len(names) > 1})
    parser.add_argument("--codec", choices=codecs, help=f"of the video, the first is the default: {known}")
    quality = f"of the video, 1 to 100; not of GIF, PNG and ProRes (default: {QUALITY})"
    parser.add_argument("--quality", type=int, metavar="N", help=quality)
    size = "longer side of the result, or width and height, with black bars if its shape differs"
    parser.add_argument("--size", type=_size, metavar="N|WxH", help=size)


def _size(text: str) -> int | tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    sides = [int(side) for side in found.groups() if side] if found else []
    if not sides or not all(16 <= side <= 16384 for side in sides):
        raise ArgumentTypeError(f"expected the longer side or WIDTHxHEIGHT, each 16 to 16384 pixels, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[1], sides[0])


def check_input(path: str) -> None:
    """Raise ValueError or OSError for a path that cannot be that of a file, a folder or a pattern of frames."""
    if not path:
        raise ValueError("expected the path of a file, a folder or a pattern, got an empty one")
    if "://" in path:
        raise ValueError(f"{path}: is an address on the network, expected a file: download it first")
    if not set(path) & set("*?[%") or Path(path).exists():
        check_regular(path)


def check_source(path: str) -> None:
    """Raise ValueError or OSError if a file is missing, or surely no image."""
    check_input(path)
    found = found_in(path)
    if not found.endswith(("image", "kind")):
        raise ValueError(f"{path}: {refusal(found)}")


def check_video(path: str) -> None:
    """Raise ValueError or OSError if a file is missing, or a folder or pattern holds no frames, or each twice."""
    check_input(path)
    find_images(Path(path))


def check_weights(args: Namespace) -> None:
    """Raise ValueError if the name of the weights can be none."""
    find_local(args.weights, revision=args.revision)


def local_config(weights: str) -> dict[str, Any]:
    """Options in the config.json of weights on this machine; none if it cannot be read, which is said on loading."""
    folder = find_local(weights)
    try:
        return read_object(folder / CONFIG, "options") if folder else {}
    except (OSError, ValueError):
        return {}


def load_model(args: Namespace) -> "DaGAN":
    """Load the model chosen by the options of `add_model`, on its device."""
    from ..dagan import DaGAN

    device = choose_device(args)
    return DaGAN.from_pretrained(args.weights, revision=args.revision).to(device)


def choose_device(args: Namespace) -> "torch.device":
    """Return the device of the option of `add_device`, after a trial of it."""
    import torch

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.empty(0, device=name).device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("known to PyTorch, not supported here")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name}: not available here, expected cpu, cuda, cuda:N or mps") from error
    return torch.device(name)


def read_media(path: str, fps: float, *, strict: bool = False) -> "Image | Video":
    """Read an image, or open a video, a folder or a pattern of frames."""
    from ..media.still import is_still, read_image
    from ..media.video import read_video

    return read_image(path) if Path(path).is_file() and is_still(path) else read_video(path, rate=fps, strict=strict)


def describe(error: BaseException) -> str:
    """Say in one line what is wrong: the error's own words, or those of the system after the name of the file."""
    if isinstance(error, OSError) and error.strerror is not None:
        return one_line(f"{error.filename or 'input or output'}: {error.strerror}")
    return one_line(lack_of_memory(error) if is_out_of_memory(error) else str(error))


@contextmanager
def telling_memory() -> Iterator[None]:
    """Raise PyTorch's only sign of too little memory, a RuntimeError on CPU and GPU, as a MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NamedMemoryError(f"{lack_of_memory(error)}: try a smaller --batch-size or another --device") from error


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line, on stdout by default, above the progress bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=file):
        print(line, file=file, flush=True)


def progress(quiet: bool, *, unit: str = "frames") -> Callable[[int, int], None]:
    """Make the callback that shows a progress bar with the time that is left until all is done, on a terminal only."""
    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if quiet or not sys.stderr.isatty():
            return
        if bar is None:
            from tqdm import tqdm

            bar = tqdm(total=total or None, initial=done, unit=f" {unit}", dynamic_ncols=True, leave=False)
        bar.update(done - bar.n)
        if done >= total > 0:
            bar.close()

    return show
