"""Variants of a model with a part switched off, by hooks that leave its weights alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..dagan import DaGAN
from .pairs import Pair

ABLATIONS = {"attention": ("no attention",), "depth": ("constant disparity", "other disparity")}
"""Ablations of `depthaware evaluate --ablate`: name -> rows of the report.

- "no attention": the warped feature passes the attention unchanged, as with its gate closed.
- "constant disparity": the disparity of every image is its own mean.
- "other disparity": source and driving frame have the disparity of a source image of another person.
"""

VARIANTS = tuple(row for rows in ABLATIONS.values() for row in rows)


def variant_rows(model: DaGAN, ablate: Sequence[str]) -> tuple[str, ...]:
    """List the rows of some ablations, in the order of `ABLATIONS`.

    Raises:
        ValueError: if an ablation is unknown, or the model lacks the part.
    """
    parts = {"attention": model.generator.attention, "depth": model.depth_net}
    for name in ablate:
        if name not in ABLATIONS:
            raise ValueError(f"ablate: expected some of {', '.join(ABLATIONS)}, got {name!r}")
        if parts[name] is None:
            raise ValueError(f"ablate: expected a model with {name}, this one has none")
    return tuple(row for name, rows in ABLATIONS.items() if name in ablate for row in rows)


@contextmanager
def variant(model: DaGAN, row: str, other: Tensor | None = None) -> Iterator[None]:
    """Switch a part of a model off within the `with` block.

    Args:
        model: with that part.
        row: of `ABLATIONS`, or any other name for the whole model.
        other: (1 or B, 1, H, W), the disparity for "other disparity".
    """
    hooks: dict[str, tuple[Any, Any]] = {
        "no attention": (model.generator.attention, lambda module, inputs, output: inputs[1]),
        "constant disparity": (model.depth_net, lambda module, inputs, output: tuple(map(_flat, output))),
        "other disparity": (model.depth_net, lambda module, inputs, output: (other.expand_as(output[0]),)),  # type: ignore[union-attr]
    }
    if row not in hooks:
        yield
        return
    module, hook = hooks[row]
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _flat(disparity: Tensor) -> Tensor:
    return disparity.mean((2, 3), keepdim=True).expand_as(disparity)


def other_sources(pairs: Sequence[Pair], persons: Mapping[str, str]) -> dict[str, tuple[str, int | str]]:
    """Choose for each source video a source image of another person: the next one in the list.

    Args:
        pairs: all pairs of the evaluation.
        persons: video -> person.

    Raises:
        ValueError: if all sources are of one person.
    """
    sources: dict[str, tuple[str, int | str]] = {}
    for pair in pairs:
        sources.setdefault(pair.source_video, pair[:2])
    names, chosen = list(sources), {}
    for i, name in enumerate(names):
        later = (n for n in names[i + 1 :] + names[:i] if persons[n] != persons[name])
        if (found := next(later, None)) is None:
            raise ValueError(f"ablate: expected sources of at least 2 persons for other disparity, got {persons[name]}")
        chosen[name] = sources[found]
    return chosen
