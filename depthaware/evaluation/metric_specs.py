"""Metric specifications, and a scorer that extracts the features they need once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics

Extractor = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] -> features (B, ...), rows of NaN where no face was found."""

CSIMTarget = Literal["auto", "source", "driving"]
FEATURE_SIZE = 256  # side of the extractors' input in pixels, for every image size of the model


class MetricSpec(NamedTuple):
    """Specification of a metric.

    Attributes:
        name: as in `depthaware.metrics`.
        higher: True if higher is better.
        kind: kind of the extractor of its inputs; None for the images themselves.
        needs_truth: True if it is defined only where the driving frame is the ground truth.
        to_source: True if the prediction is compared with the source where there is no ground truth.
        is_value: True if it is a value of one image, from which the transfer of the expression is computed.
    """

    name: str
    higher: bool
    kind: str | None = None
    needs_truth: bool = True
    to_source: bool = False
    is_value: bool = False


EXPRESSION = ("mouth_opening", "mouth_width", "eye_opening")
"""Features of the expression, in the order of the extractor's; the metric "expression" stands for all three."""

METRICS = {
    spec.name: spec
    for spec in (
        MetricSpec("ssim", True),
        MetricSpec("ms_ssim", True),
        MetricSpec("psnr", True),
        MetricSpec("lpips", False),
        MetricSpec("l1", False),
        MetricSpec("akd", False, "landmarks"),
        MetricSpec("aed", False, "identity"),
        MetricSpec("csim", True, "identity", needs_truth=False, to_source=True),
        MetricSpec("prmse", False, "pose", needs_truth=False),
        MetricSpec("aucon", True, "action-units", needs_truth=False),
        MetricSpec("jitter", False, "landmarks"),
        *(MetricSpec(name, True, "expression", needs_truth=False, is_value=True) for name in EXPRESSION),
    )
}
"""All metrics of single pairs, by name. FID, a metric of all pairs together, is not among them."""


class Features(NamedTuple):
    """Images and the features extracted from them.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        features: kind of extractor -> (B, ...).
    """

    images: Tensor
    features: Mapping[str, Tensor]

    def expand(self, size: int) -> "Features":
        """Expand a batch of one to a batch of `size`."""
        images, *features = (x.expand(size, *x.shape[1:]) for x in (self.images, *self.features.values()))
        return Features(images, dict(zip(self.features, features, strict=True)))


class Scorer:
    """Compute a choice of metrics.

    Args:
        names: of the metrics, keys of `METRICS`.
        extractors: by kind ("landmarks", "identity", "pose", "expression", "action-units"), one for each kind that
            these need.
        csim: image whose person CSIM compares with: "source", as in section 4.1 of the paper; "driving"; or "auto",
            the driving frame where it is the ground truth, else the source.

    Raises:
        ValueError: if a metric is unknown or an extractor is missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        extractors: Mapping[str, Extractor] | None = None,
        csim: CSIMTarget = "auto",
    ) -> None:
        if csim not in ("auto", "source", "driving"):
            raise ValueError(f"csim: expected 'auto', 'source' or 'driving', got {csim!r}")
        unknown = [name for name in names if name not in METRICS]
        if unknown or not names:
            found = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, got {found}")
        self.specs = tuple(spec for spec in METRICS.values() if spec.name in names)
        given = extractors or {}
        self.csim = csim
        for name, _, kind, *_ in self.specs:
            if kind and kind not in given:
                raise ValueError(f"metric {name!r}: needs an extractor of {kind}, got none")
        self.extractors = {kind: given[kind] for kind in sorted({spec.kind for spec in self.specs if spec.kind})}
        self._lpips = metrics.LPIPS()

    def extract_features(self, images: Tensor) -> Features:
        """Extract the features that the metrics need from images (B, 3, H, W) in [0, 1]."""
        large = images
        if self.extractors and images.shape[-2:] != (FEATURE_SIZE, FEATURE_SIZE):
            large = F.interpolate(images, size=(FEATURE_SIZE, FEATURE_SIZE), mode="bilinear", antialias=True)
        return Features(images, {kind: extract(large) for kind, extract in self.extractors.items()})

    def score(
        self, prediction: Features, source: Features, driving: Features, *, truth: bool, sequence: bool
    ) -> Tensor:
        """Score B predictions.

        Args:
            prediction: features of the predicted images.
            source: features of the source images.
            driving: features of the driving images.
            truth: True if the driving images are the ground truth.
            sequence: True if these are evenly spaced frames of one clip, which `jitter` needs.

        Returns:
            (B, metrics), NaN where a metric is not defined or no face was found.
        """
        columns = []
        for spec in self.specs:
            target = source if spec.to_source and self._is_to_source(truth) else driving
            if truth or not spec.needs_truth:
                column = self._compare(spec, prediction, target, sequence)
            else:
                column = torch.full((len(prediction.images),), torch.nan)
            columns.append(column.cpu().double())  # some devices lack double precision
        return torch.stack(columns, dim=1)

    def _is_to_source(self, truth: bool) -> bool:
        return self.csim == "source" or (self.csim == "auto" and not truth)

    def _compare(self, spec: MetricSpec, prediction: Features, target: Features, sequence: bool) -> Tensor:
        p, t = (item.features[spec.kind] if spec.kind else item.images for item in (prediction, target))
        if spec.is_value:
            return p[:, EXPRESSION.index(spec.name)]
        if spec.name == "lpips":
            return self._lpips(p, t)
        if spec.name != "jitter":
            return getattr(metrics, spec.name)(p, t)
        scores = p.new_full((len(p),), torch.nan)
        if sequence and len(p) > 2:
            scores[1:-1] = metrics.jitter(p, t, form="error")  # the ends of a batch lack a neighbor
        return scores
