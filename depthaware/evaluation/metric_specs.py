"""Which metric compares what with what, and the features that it needs, extracted once."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics

Extractor = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] -> one row of features each, NaN where no face was found."""

FEATURE_SIZE = 256  # landmarks are in pixels of this size, whatever the model's


class MetricSpec(NamedTuple):
    """A metric, and what it looks at.

    Attributes:
        name: as in `depthaware.metrics`.
        higher: whether more is better.
        kind: of extractor that makes its inputs; None for the images themselves.
        needs_truth: whether it only makes sense where the driving frame is what the result should be.
        to_source: whether the result is compared with the source where there is no such truth.
    """

    name: str
    higher: bool
    kind: str | None = None
    needs_truth: bool = True
    to_source: bool = False


# In the order of the paper's tables.
METRICS = {
    measure.name: measure
    for measure in (
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
    )
}
"""Every metric of single pairs, by its name; FID, which is of all pairs together, comes beside."""


class Features(NamedTuple):
    """Images, and the features found in them.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        features: (B, ...) of each kind of extractor.
    """

    images: Tensor
    features: Mapping[str, Tensor]

    def expand(self, size: int) -> "Features":
        """A batch of one, seen as a batch of `size`."""
        images, *features = (x.expand(size, *x.shape[1:]) for x in (self.images, *self.features.values()))
        return Features(images, dict(zip(self.features, features, strict=True)))


class Scorer:
    """Any choice of metrics.

    Args:
        names: of the metrics, out of `METRICS`.
        extractors: one for each kind that these need: "landmarks", "identity", "pose", "action-units".

    Raises:
        ValueError: if there is no such metric, or an extractor is missing.
    """

    def __init__(self, names: Sequence[str], *, extractors: Mapping[str, Extractor] | None = None) -> None:
        unknown = [name for name in names if name not in METRICS]
        if unknown or not names:
            found = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, got {found}")
        self.measures = tuple(measure for measure in METRICS.values() if measure.name in names)
        given = extractors or {}
        for name, _, kind, *_ in self.measures:
            if kind and kind not in given:
                raise ValueError(f"metric {name!r}: needs an extractor of {kind}, got none")
        self.extractors = {kind: given[kind] for kind in sorted({m.kind for m in self.measures if m.kind})}
        self._lpips = metrics.LPIPS()

    def look(self, images: Tensor) -> Features:
        """Extract what the metrics need from images (B, 3, H, W) in [0, 1]."""
        large = images
        if self.extractors and images.shape[-2:] != (FEATURE_SIZE, FEATURE_SIZE):
            large = F.interpolate(images, size=(FEATURE_SIZE, FEATURE_SIZE), mode="bilinear", antialias=True)
        return Features(images, {kind: extract(large) for kind, extract in self.extractors.items()})

    def score(
        self, prediction: Features, source: Features, driving: Features, *, truth: bool, sequence: bool
    ) -> Tensor:
        """Scores of B results.

        Args:
            prediction: the results.
            source: what lent its looks.
            driving: what lent its motion.
            truth: whether the driving images show what the results should be.
            sequence: whether these are evenly spaced frames of one clip, as `jitter` needs.

        Returns:
            (B, metrics), NaN where there is nothing to compare.
        """
        columns = []
        for measure in self.measures:
            other = source if measure.to_source and not truth else driving
            if truth or not measure.needs_truth:
                column = self._compare(measure, prediction, other, sequence)
            else:
                column = torch.full((len(prediction.images),), torch.nan)
            columns.append(column.cpu().double())  # some devices know no double precision
        return torch.stack(columns, dim=1)

    def _compare(self, measure: MetricSpec, prediction: Features, other: Features, sequence: bool) -> Tensor:
        ours, theirs = (seen.features[measure.kind] if measure.kind else seen.images for seen in (prediction, other))
        if measure.name == "lpips":
            return self._lpips(ours, theirs)
        if measure.name != "jitter":
            return getattr(metrics, measure.name)(ours, theirs)
        scores = ours.new_full((len(ours),), torch.nan)
        if sequence and len(ours) > 2:
            scores[1:-1] = metrics.jitter(ours, theirs, form="error")  # the ends of a batch lack a neighbor
        return scores
