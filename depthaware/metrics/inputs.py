"""Input validation: refuse shapes that would broadcast, and ranges that would change the scale."""

import torch
from torch import Tensor


def pair(prediction: Tensor, target: Tensor, expected: str) -> tuple[Tensor, Tensor]:
    """Check that two tensors have the same, expected shape; returns them in at least single precision.

    Args:
        prediction: any tensor.
        target: likewise.
        expected: names and sizes of the dimensions, like "B 3 H W"; only the sizes are compared.

    Raises:
        ValueError: if the shapes differ or are not as expected.
    """
    sizes = expected.split()
    fits = prediction.ndim == len(sizes) and all(
        not name.isdigit() or int(name) == size for name, size in zip(sizes, prediction.shape, strict=True)
    )
    if prediction.shape != target.shape or not fits:
        found = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(f"expected prediction and target of one shape ({', '.join(sizes)}), got {found}")
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(dtype)


def images(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check two images (B, 3, H, W) as `pair` does, and that they are in [0, 1]; NaN is accepted.

    Raises:
        ValueError: if the shapes differ, or one is not in [0, 1], such as bytes or images in [-1, 1].
    """
    prediction, target = pair(prediction, target, "B 3 H W")
    for name, image in (("prediction", prediction), ("target", target)):
        if ((image < -1e-3) | (image > 1 + 1e-3)).any():
            low, high = image.nan_to_num(nan=0).aminmax()
            raise ValueError(f"expected a {name} in [0, 1], got values from {low:g} to {high:g}")
    return prediction, target


def one_of(name: str, found: str, known: tuple[str, ...]) -> None:
    """Refuse unknown values of an option."""
    if found not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {found!r}")
