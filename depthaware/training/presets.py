"""Presets: named sets of default values, which options given explicitly override."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from .options import option

Options = TypeVar("Options")
Presets = Mapping[str, Mapping[str, Any]]


def preset_option(presets: Presets, name: str, help: str) -> Any:
    """Field of an options dataclass whose default, None, stands for the preset's value.

    Args:
        presets: values by field name, by preset name.
        name: of the field.
        help: as in `option`; the values of the presets are added.
    """
    return option(None, f"{help} ({', '.join(f'{values[name]} in {preset}' for preset, values in presets.items())})")


def with_preset(options: Options, values: Mapping[str, Any]) -> Options:
    """The options with `values` for those fields that are None."""
    missing = {name: value for name, value in values.items() if getattr(options, name) is None}
    return dataclasses.replace(options, **missing)  # type: ignore[type-var]
