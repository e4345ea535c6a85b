"""How well person, pose and expression came over, from what detectors found; a row of NaN says: nothing."""

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
    """Average keypoint distance between the landmarks of two faces.

    "absolute": mean of |difference| over all landmarks and both coordinates, which is what FOMM's evaluation computes.
    "euclidean": mean over landmarks of the distance, as the name says; √2 to 2 times the other.
    Lower is better. In pixels of an image of 256 x 256; at least 0.
    Trap: where a bad picture shows no face there is no distance, and leaving such frames out makes a bad model better.
    Their number belongs beside the value. Of another person's landmarks it mostly measures the shape of the face.

    Args:
        prediction: (B, N, 2) in pixels, N = 68 in the literature.
        target: likewise.
        form: see above.
        size: side of the images in which the landmarks were found; distances are scaled to 256.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or the form is not known.

    Reference:
        Siarohin et al. 2019 (FOMM), section 4, and its public evaluation code.
    """
    one_of("form", form, ("absolute", "euclidean"))
    prediction, target = pair(prediction, target, "B N 2")
    difference = (prediction - target) * (256 / size)
    return difference.abs().mean((1, 2)) if form == "absolute" else difference.norm(dim=2).mean(1)


def aed(prediction: Tensor, target: Tensor, *, form: Literal["squared", "l2", "mean_absolute"] = "squared") -> Tensor:
    """Average "Euclidean" distance between the identity embeddings of two faces.

    "squared": sum of squared differences, which FOMM's public evaluation code computes since March 2019.
    "l2": its root, a Euclidean distance. "mean_absolute": mean of |difference|, as that code did before.
    Lower is better. In the embedder's own unit; at least 0, and "squared" at most 4 for embeddings of length 1.
    Trap: the three differ by orders of magnitude, and none is comparable between embedders.

    Args:
        prediction: (B, E) embeddings as the network gives them.
        target: likewise.
        form: see above.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ or the form is not known.

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
    """Cosine similarity of the identity embeddings of two faces: x · y / (|x| |y|).

    Higher is better. No unit; in [-1, 1], 1 for the same direction; NaN for an embedding of zeros.
    Trap: for cross-identity pairs the target is the source's person, not the driver's. Copying the source scores 1.

    Args:
        prediction: (B, E), of any length each.
        target: likewise, of the person who should be seen.

    Returns:
        (B,)

    Raises:
        ValueError: if the shapes differ.

    Reference:
        Zakharov et al. 2019; Ha et al. 2020 (MarioNETte).
    """
    prediction, target = pair(prediction, target, "B E")
    dot, square, other = ((x * y).sum(1) for x, y in ((prediction, target), (prediction, prediction), (target, target)))
    return (dot / (square * other).sqrt()).clamp(-1, 1)  # one root of the product: exactly 1 at identity


def prmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root of the mean squared difference of the three angles of the head's pose, each taken the short way round.

    Lower is better. In degrees; in [0, 180].
    Aggregation: one root per frame here, and the mean of these is reported. The root over all frames and angles at once
    is never smaller; ``Average`` over ``prmse(...) ** 2`` and a root at the end gives that reading. The paper names the
    root mean square error of the pose angles and does not say which.
    Trap: every pose estimator has an offset of its own; angles from two of them must not be compared.

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
    """Consistency of the facial action units: share of the units that are present in both faces or absent in both.

    Higher is better. No unit; in [0, 1].
    Trap: most units are absent most of the time, so a face that shows nothing at all scores well above one half. It
    depends on which units the detector knows, and on the threshold above which it calls one present.

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
    """How much a face trembles: second differences a[t] = p[t-1] - 2 p[t] + p[t+1] of the landmarks in time.

    "excess": mean over landmarks of |a| of the prediction, minus the same of the driver. Nearest to 0 is best: above,
    the prediction trembles; below, it is smoother than the driver, and a frozen picture is lowest of all.
    "error": mean over landmarks of |a of the prediction - a of the driver|, for pairs of the same person. Lower is
    better; at least 0.
    In pixels of an image of 256 x 256 per frame².
    Trap: of smooth motion it grows with the square of the time between frames, and the detector's own trembling is in
    both terms. Compare at one frame rate, with one detector, and not across cuts.

    Args:
        prediction: (T, N, 2) in pixels, landmarks of consecutive frames.
        target: likewise, of the driver.
        form: see above.
        size: side of the images in which the landmarks were found.

    Returns:
        (T-2,), one value per frame that has both neighbors; none of fewer than three frames.

    Raises:
        ValueError: if the shapes differ or the form is not known.
    """
    one_of("form", form, ("excess", "error"))
    prediction, target = pair(prediction, target, "T N 2")
    a, b = ((p[:-2] - 2 * p[1:-1] + p[2:]) * (256 / size) for p in (prediction, target))
    if form == "error":
        return (a - b).norm(dim=2).mean(1)
    return a.norm(dim=2).mean(1) - b.norm(dim=2).mean(1)
