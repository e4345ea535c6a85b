"""Type and range of every option of a model, in one place: for constructors, config.json and export.json alike."""

import math
import re
from collections.abc import Callable, Mapping
from reprlib import Repr
from typing import Any, NamedTuple

_short = Repr()
_short.maxstring = _short.maxother = 80


class Kind(NamedTuple):
    """Values that an option may have.

    Attributes:
        expected: them in words, for errors.
        accepts: tells whether a value is one of them.
    """

    expected: str
    accepts: Callable[[Any], bool]


def whole(low: int, high: int) -> Kind:
    """Whole numbers, both ends included."""
    return Kind(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Kind:
    """Numbers, both ends included."""
    return Kind(f"a number from {low:g} to {high:g}", lambda value: _is_number(value) and low <= value <= high)


def one_of(*names: str) -> Kind:
    """Some names."""
    words = ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}" if len(names) > 1 else repr(names[0])
    return Kind(words, lambda value: isinstance(value, str) and value in names)


def list_of(kind: Kind, most: int) -> Kind:
    """Lists of up to `most` values of a kind."""
    return Kind(
        f"a list of up to {most} times {kind.expected}",
        lambda value: isinstance(value, list | tuple) and len(value) <= most and all(map(kind.accepts, value)),
    )


flag = Kind("true or false", lambda value: isinstance(value, bool))
mapping = Kind("an object", lambda value: isinstance(value, Mapping))
text = Kind("a name", lambda value: isinstance(value, str) and len(value) <= 200)
# Neither an address nor a folder, both of which timm would follow.
_encoder = Kind(
    "the name of a timm ResNet, like 'resnet18.tv_in1k'",
    lambda value: isinstance(value, str) and re.fullmatch(r"[a-z]\w{,99}(\.\w{1,99})?", value, re.ASCII) is not None,
)
_side, _width, _most, _halvings = whole(1, 8192), whole(1, 4096), whole(1, 16384), whole(1, 12)
_channels = Kind(
    "5 whole numbers from 1 to 4096",
    lambda value: isinstance(value, list | tuple) and len(value) == 5 and all(map(_width.accepts, value)),
)
_interval = Kind(
    "two numbers, 0 < nearest < farthest",
    lambda value: (
        isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)) and 0 < value[0] < value[1]
    ),
)

MODEL = {
    # of `DaGAN`
    "image_size": _side,
    "num_keypoints": whole(1, 1000),
    "keypoint_input": one_of("rgb", "rgbd", "depth"),
    "estimate_jacobian": flag,
    "attention": one_of("cross", "self", "none"),
    "attention_form": one_of("released", "paper"),
    "initial_gate": number(0, 1),
    "decoder": one_of("plain", "spade"),
    "blend": flag,
    "depth_encoder": _encoder,
    "depth_channels": _channels,
    "depth_range": _interval,
    "detector_block_expansion": _width,
    "motion_block_expansion": _width,
    "hourglass_max_features": _most,
    "num_hourglass_blocks": _halvings,
    "generator_block_expansion": _width,
    "generator_max_features": _most,
    "num_down_blocks": whole(0, 12),
    "num_bottleneck_blocks": whole(0, 256),
    "scale_factor": number(1 / 32, 1),
    "align_corners": flag,
    # of `SelfSupDepthNet` and `RGBDKeypointDetector`, where their names differ
    "encoder": _encoder,
    "decoder_channels": _channels,
    "input": one_of("rgb", "rgbd", "depth"),
    "block_expansion": _width,
    "max_features": _most,
    "num_blocks": _halvings,
    "temperature": number(1e-6, 1e6),
    "padding": whole(0, 3),
}


def check_options(options: Mapping[str, Any], kinds: Mapping[str, Kind] = MODEL) -> None:
    """Raise ValueError for the first option whose value is not of its kind; those without a kind are left alone."""
    for name, value in options.items():
        kind = kinds.get(name)
        if kind and not kind.accepts(value):
            raise ValueError(f"{name}: expected {kind.expected}, got {short(value)}")


def check_keys(options: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """`check_options`, and every option must be there."""
    for name, kind in kinds.items():
        if name not in options:
            raise ValueError(f"expected {name} ({kind.expected}), found {short(', '.join(options)) or 'nothing'}")
    check_options(options, kinds)


def short(value: Any) -> str:
    """Describe a value of unknown size and depth in few characters."""
    return _short.repr(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
