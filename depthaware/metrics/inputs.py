"""What the metrics refuse: shapes that would broadcast, ranges that would change the scale."""

import torch
from torch import Tensor


def pair(prediction: Tensor, target: Tensor, expected: str) -> tuple[Tensor, Tensor]:
    """The two in at least single precision, if they are of one shape and it is the expected one.

    Args:
        prediction: any tensor.
        target: likewise.
        expected: names and numbers of the dimensions, like "B 3 H W"; only the numbers are compared.

    Raises:
        ValueError: if the shapes differ, or are not as expected.
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
    """Likewise for images (B, 3, H, W), which must be in [0, 1]; NaN is let through.

    Raises:
        ValueError: if one is not in [0, 1], as bytes or images in [-1, 1] are not.
    """
    prediction, target = pair(prediction, target, "B 3 H W")
    for name, image in (("prediction", prediction), ("target", target)):
        if ((image < -1e-3) | (image > 1 + 1e-3)).any():
            low, high = image.nan_to_num(nan=0).aminmax()
            raise ValueError(f"expected a {name} in [0, 1], got values from {low:g} to {high:g}")
    return prediction, target


def one_of(name: str, found: str, known: tuple[str, ...]) -> None:
    """Refuse an option that is not known."""
    if found not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {found!r}")
