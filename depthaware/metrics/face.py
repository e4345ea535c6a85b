"""Face metrics of landmarks, identity, head pose and action units; rows of NaN stand for no detection."""

from typing import Literal

import torch
from torch import Tensor

from .inputs import one_of, pair


def akd(
    prediction: Tensor,
    target: Tensor,
    *,
    form: Literal["absolute", "euclidean"] = "absolute",
    size: int = 256,
) -> Tensor:
    """Average key point distance (AKD) between the landmarks of two faces.

    "absolute": mean of |difference| over all landmarks and both coordinates, as in FOMM's evaluation code.
    "euclidean": mean over landmarks of the Euclidean distance; √2 to 2 times the former.
    Lower is better. In pixels of an image of 256 x 256; at least 0.
    Note: frames in which no face is detected have no distance, and leaving them out favors bad models: report their
    number beside the value. Between different persons it mostly measures the difference in face shape.

    Args:
        prediction: (B, N, 2) in pixels, N = 68 in the literature.
        target: likewise.
        form: definition, see above.
        size: side of the images in which the landmarks were found; distances are scaled to 256.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or the form is unknown.

    Reference:
        Siarohin et al. 2019 (FOMM), section 4, and its public evaluation code.
    """
    one_of("form", form, ("absolute", "euclidean"))
    prediction, target = pair(prediction, target, "B N 2")
    difference = (prediction - target) * (256 / size)
    return difference.abs().mean((1, 2)) if form == "absolute" else difference.norm(dim=2).mean(1)


def aed(prediction: Tensor, target: Tensor, *, form: Literal["squared", "l2", "mean_absolute"] = "squared") -> Tensor:
    """Average "Euclidean" distance (AED) between the identity embeddings of two faces.

    "squared": sum of squared differences, as in FOMM's public evaluation code since March 2019.
    "l2": its root, a Euclidean distance. "mean_absolute": mean of |difference|, as in that code before.
    Lower is better. In the unit of the embedding; at least 0, and "squared" at most 4 for embeddings of length 1.
    Note: the three differ by orders of magnitude, and none is comparable between embedding networks.

    Args:
        prediction: (B, E) embeddings as computed by the network.
        target: likewise.
        form: definition, see above.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or the form is unknown.

    Reference:
        Siarohin et al. 2019 (Monkey-Net), and the public evaluation code.
    """
    one_of("form", form, ("squared", "l2", "mean_absolute"))
    prediction, target = pair(prediction, target, "B E")
    difference = prediction - target
    if form == "mean_absolute":
        return difference.abs().mean(1)
    return difference.square().sum(1) if form == "squared" else difference.norm(dim=1)


def csim(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine similarity (CSIM) of the identity embeddings of two faces: x · y / (|x| |y|).

    Higher is better. No unit; in [-1, 1], 1 for the same direction; NaN for an embedding of zeros.
    Note: for cross-identity pairs the target is the person of the source, not of the driving frame. Copying the source
    scores 1.

    Args:
        prediction: (B, E) embeddings of any length.
        target: likewise, of the person to be shown.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ.

    Reference:
        Zakharov et al. 2019; Ha et al. 2020 (MarioNETte).
    """
    prediction, target = pair(prediction, target, "B E")
    dot, square, other = ((x * y).sum(1) for x, y in ((prediction, target), (prediction, prediction), (target, target)))
    return (dot / (square * other).sqrt()).clamp(-1, 1)  # one root of the product: 1 exactly at identity


def prmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean squared difference of head pose angles (PRMSE), each wrapped to [-180, 180] degrees.

    Lower is better. In degrees; in [0, 180].
    Aggregation: one root per frame, whose mean is reported. The root over all frames and angles at once is never
    smaller; it is the root of an ``Average`` of ``prmse(...) ** 2``. The paper states the root mean square error of the
    pose angles and does not specify which.
    Note: every pose estimator has an offset of its own; angles from two of them must not be compared.

    Args:
        prediction: (B, 3) yaw, pitch and roll in degrees.
        target: likewise, in the same order.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or there are not three angles.

    Reference:
        Ha et al. 2020 (MarioNETte).
    """
    prediction, target = pair(prediction, target, "B 3")
    difference = (prediction - target).abs() % 360
    return torch.minimum(difference, 360 - difference).square().mean(1).sqrt()


def aucon(prediction: Tensor, target: Tensor) -> Tensor:
    """Action unit consistency (AUCON): fraction of the units that are present in both faces or absent in both.

    Higher is better. No unit; in [0, 1].
    Note: most units are absent most of the time, so that a neutral face scores well above 0.5. The value depends on the
    set of units of the detector and on its threshold.

    Args:
        prediction: (B, A), 1 or True where the unit is present, else 0.
        target: likewise, the same units in the same order.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or there are values other than 0 and 1, as intensities are.

    Reference:
        Ha et al. 2020 (MarioNETte).
    """
    prediction, target = pair(prediction, target, "B A")
    for name, units in (("prediction", prediction), ("target", target)):
        if ((units != 0) & (units != 1) & ~units.isnan()).any():
            raise ValueError(f"expected units of 0 or 1 as {name}, got intensities: compare with a threshold first")
    return 1 - (prediction - target).abs().mean(1)


def jitter(
    prediction: Tensor, target: Tensor, *, form: Literal["excess", "error"] = "excess", size: int = 256
) -> Tensor:
    """Temporal jitter of landmarks, from their second differences a[t] = p[t-1] - 2 p[t] + p[t+1].

    "excess": mean over landmarks of |a| of the prediction, minus the same of the driving video. Closest to 0 is best:
    above, the prediction jitters; below, it is smoother than the driving video; a still image has the lowest value.
    "error": mean over landmarks of |a of the prediction - a of the driving video|, for pairs of the same person. Lower
    is better; at least 0.
    In pixels of an image of 256 x 256 per frame².
    Note: for smooth motion it grows with the square of the time between frames, and both terms contain the jitter of
    the detector. Compare at one frame rate, with one detector, and not across cuts.

    Args:
        prediction: (T, N, 2) in pixels, landmarks of consecutive frames.
        target: likewise, of the driving video.
        form: definition, see above.
        size: side of the images in which the landmarks were found.

    Returns:
        (T-2,), one value per frame with two neighbors; (0,) for fewer than three frames.

    Raises:
        ValueError: if the shapes differ or the form is unknown.
    """
    one_of("form", form, ("excess", "error"))
    prediction, target = pair(prediction, target, "T N 2")
    a, b = ((p[:-2] - 2 * p[1:-1] + p[2:]) * (256 / size) for p in (prediction, target))
    if form == "error":
        return (a - b).norm(dim=2).mean(1)
    return a.norm(dim=2).mean(1) - b.norm(dim=2).mean(1)
