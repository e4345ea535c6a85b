"""The options of a model in config.json: recorded by its constructor, read under earlier names as well."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec

from .options import check_options

Options = ParamSpec("Options")

# Written before the options of `DaGAN` had the names of its parts' options.
_EARLIER_NAMES = {
    "keypoint_width": "detector_block_expansion",
    "motion_width": "motion_block_expansion",
    "hourglass_features": "hourglass_max_features",
    "hourglass_blocks": "num_hourglass_blocks",
    "generator_width": "generator_block_expansion",
    "generator_features": "generator_max_features",
    "down_blocks": "num_down_blocks",
    "bottleneck_blocks": "num_bottleneck_blocks",
}


def with_current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of an earlier config.json; others stay as they are."""
    return {_EARLIER_NAMES.get(name, name): value for name, value in options.items()}


def records_options(init: Callable[Concatenate[Any, Options], None]) -> Callable[Concatenate[Any, Options], None]:
    """Decorate an ``__init__`` so that it checks its options, and leaves them, JSON-able, in ``self.config``.

    `pretrained` is left out: it says where training starts, and loaded weights are not to be downloaded again.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recording(self: Any, *args: Options.args, **options: Options.kwargs) -> None:
        bound = signature.bind(self, *args, **options)
        bound.apply_defaults()
        check_options(bound.arguments)
        init(self, *args, **options)
        values = {name: value for name, value in bound.arguments.items() if name not in ("self", "pretrained")}
        self.config = {name: [*value] if isinstance(value, tuple | list) else value for name, value in values.items()}

    return recording
