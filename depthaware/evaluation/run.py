"""Batched scoring of pairs: the model, its variants, the copied source and the driving frame itself."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..dagan import DaGAN, SourceEncoding
from ..data.clip_reader import ClipReader
from ..keypoints import transfer_motion
from ..metrics import FID
from .expression import COMPRESSED, compress
from .metric_specs import CSIMTarget, Extractor, Features, Scorer
from .pairs import Pair, batches, person_of, unite_names
from .variants import other_sources, variant, variant_rows

Mode = Literal["auto", "relative", "absolute"]
PREDICTIONS = ("model", "copy", "perfect")
"""Rows of every result: the model's prediction, the source itself, the driving frame itself."""


class Result(NamedTuple):
    """Scores of one pair.

    Attributes:
        pair: source and driving frame.
        scores: a row for each of `PREDICTIONS`, or of `Evaluator.rows`, with a score for each metric, NaN where
            undefined; empty on failure.
        failure: reason of the failure, or "".
    """

    pair: Pair
    scores: tuple[tuple[float, ...], ...]
    failure: str = ""


class Prediction(NamedTuple):
    """Source, driving and predicted images of some pairs; (B, 3, H, W) in [0, 1]."""

    source: Tensor
    driving: Tensor
    prediction: Tensor


def evaluate(
    model: DaGAN,
    pairs: Sequence[Pair],
    reader: ClipReader,
    *,
    metrics: Sequence[str] = ("ssim", "psnr", "l1"),
    extractors: Mapping[str, Extractor] | None = None,
    csim: CSIMTarget = "auto",
    mode: Mode = "auto",
    batch_size: int = 8,
    strict: bool = False,
) -> Iterator[Result]:
    """Score pairs lazily, in constant memory.

    Args:
        model: on the target device.
        pairs: source and driving frames.
        reader: of the clips, with the model's image size.
        metrics: keys of `METRICS`.
        extractors: for the metrics of faces, see `Scorer`.
        csim: image that CSIM compares with, see `Scorer`.
        mode: "absolute" or "relative" motion; "auto" is absolute where source and driving frame are of one video.
        batch_size: pairs per batch.
        strict: raise the first error of a pair instead of reporting it.

    Returns:
        One result per pair, each clip under the first of its names; in another order than the pairs where single pairs
        stand between longer runs of one source.
    """
    evaluator = Evaluator(model, reader, Scorer(metrics, extractors=extractors, csim=csim), mode=mode, strict=strict)
    pairs = unite_names(pairs, reader)
    for batch in batches(pairs, batch_size):
        yield from evaluator([pairs[i] for i in batch])


class Evaluator:
    """Generate and score batches of pairs; encodings and features of a source are cached.

    Args:
        model: on the target device.
        reader: of the clips.
        scorer: the metrics.
        mode: as in `evaluate`.
        strict: as in `evaluate`.
        fid: metrics to update, one for each of `PREDICTIONS`.
        ablate: keys of `ABLATIONS`, whose rows are scored too.
        pairs: all pairs, from which "other disparity" takes its images.
        persons: video -> person; `person_of` the name where a video is absent.

    Attributes:
        rows: names of the rows of each result: `PREDICTIONS`, the ablations, and `COMPRESSED` with expression.
    """

    def __init__(
        self,
        model: DaGAN,
        reader: ClipReader,
        scorer: Scorer,
        *,
        mode: Mode = "auto",
        strict: bool = False,
        fid: Sequence[FID] = (),
        ablate: Sequence[str] = (),
        pairs: Sequence[Pair] = (),
        persons: Mapping[str, str] | None = None,
    ) -> None:
        if mode not in ("auto", "relative", "absolute"):
            raise ValueError(f"mode: expected 'auto', 'relative' or 'absolute', got {mode!r}")
        self.model, self.reader, self.scorer = model, reader, scorer
        self.mode, self.strict, self.fid = mode, strict, fid
        self.variants = variant_rows(model, ablate)
        self.rows = (*PREDICTIONS, *self.variants, *([COMPRESSED] if "expression" in scorer.extractors else []))
        self._others: dict[str, tuple[str, int | str]] = {}
        self._other_images: dict[str, Tensor] = {}
        if "other disparity" in self.variants:
            known = {pair.source_video: person_of(pair.source_video, persons or {}) for pair in pairs}
            self._others = other_sources(pairs, known)
        self._keys: list[tuple] | None = None
        self._encodings: dict[str, SourceEncoding] = {}
        self._features: Features | None = None

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[Pair]) -> list[Result]:
        """Score one of the `batches`."""
        results: dict[int, Result] = {}
        frames: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for i, pair in enumerate(pairs):
            try:
                frames[i] = self._read(pair)
            except (ValueError, OSError) as error:
                if self.strict:
                    raise
                results[i] = Result(pair, (), self.reader.reason(error))
        if frames:
            device = next(self.model.parameters()).device
            source, driving, initial = (torch.cat(images).to(device) for images in zip(*frames.values(), strict=True))
            scored = self._score([pairs[i] for i in frames], source, driving, initial)
            results |= dict(zip(frames, scored, strict=True))
        return [results[i] for i in range(len(pairs))]

    @torch.inference_mode()
    def predict(self, pair: Pair) -> Prediction:
        """Generate the images of one pair, without scores."""
        device = next(self.model.parameters()).device
        source, driving, initial = (image.to(device) for image in self._read(pair))
        return Prediction(source, driving, self._generate([pair], source, driving, initial))

    def _is_relative(self, pair: Pair) -> bool:
        return self.mode == "relative" or (self.mode == "auto" and not pair.has_truth)

    def _read(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Source, driving and initial frame; the source stands in for the initial frame where motion is absolute."""
        source = self.reader.frame(pair.source_video, pair.source_frame)
        if self._others and pair.source_video not in self._other_images:  # kept, as another clip would be opened for it
            self._other_images[pair.source_video] = self.reader.frame(*self._others[pair.source_video])
        initial = self.reader.frame(pair.driving_video, pair.initial_frame) if self._is_relative(pair) else source
        return source, self.reader.frame(pair.driving_video, pair.driving_frame), initial

    def _keep_source(self, pairs: Sequence[Pair], images: Tensor) -> Tensor:
        """Forget what was computed for other sources; returns one common source, or one source for each pair."""
        keys: list[tuple] = [pair[:2] for pair in pairs]
        keys, images = (keys[:1], images[:1]) if len(set(keys)) == 1 else (keys, images)
        if self._keys != keys:
            self._keys, self._encodings, self._features = keys, {}, None
        return images

    def _generate(
        self, pairs: Sequence[Pair], source: Tensor, driving: Tensor, initial: Tensor, row: str = "model"
    ) -> Tensor:
        """Predict with the model or one of its variants."""
        source = self._keep_source(pairs, source)
        other = self._other_disparity(pairs[: len(source)]) if row == "other disparity" else None
        with variant(self.model, row, other):
            if row not in self._encodings:
                self._encodings[row] = self.model.encode_source(source)
            encoding, keypoints = self._encodings[row], self.model.detect_keypoints(driving)
            if self._is_relative(pairs[0]):
                shared = len({(pair.driving_video, pair.initial_frame) for pair in pairs}) == 1
                shared = shared and (other is None or len(other) == 1)  # several disparities are of several images
                kp_initial = self.model.detect_keypoints(initial[:1] if shared else initial)
                keypoints = transfer_motion(encoding.keypoints, keypoints, kp_initial)
            return self.model.drive(encoding, keypoints)

    def _other_disparity(self, pairs: Sequence[Pair]) -> Tensor:
        images = torch.cat([self._other_images[pair.source_video] for pair in pairs])
        assert self.model.depth_net is not None
        return self.model.depth_net(images.to(next(self.model.parameters()).device), num_scales=1)[0]

    def _score(self, pairs: Sequence[Pair], source: Tensor, driving: Tensor, initial: Tensor) -> list[Result]:
        predictions = [self._generate(pairs, source, driving, initial, row) for row in ("model", *self.variants)]
        finite = torch.stack([prediction.isfinite().flatten(1).all(1) for prediction in predictions]).all(0)
        if self.strict and not finite.all():
            raise ValueError(f"{_named(pairs[int(finite.int().argmin())])}: the prediction is not finite")
        compared = self._compared(pairs, predictions, finite, source, driving)
        (_, copied, perfect), flags = compared[:3], dict(truth=pairs[0].has_truth, sequence=_is_sequence(pairs))
        scores = torch.stack([self.scorer.score(features, copied, perfect, **flags) for features in compared], dim=1)
        for fid, features in zip(self.fid, compared if finite.any() else (), strict=False):
            fid.update(features.images[finite], driving[finite])
        return [
            Result(pair, tuple(map(tuple, rows))) if ok else Result(pair, (), "the prediction is not finite")
            for pair, rows, ok in zip(pairs, scores.tolist(), finite.tolist(), strict=True)
        ]

    def _compared(
        self, pairs: Sequence[Pair], predictions: Sequence[Tensor], finite: Tensor, source: Tensor, driving: Tensor
    ) -> list[Features]:
        """Features of the images of all rows."""
        broken = ~finite.view(-1, 1, 1, 1)  # drawn black: no face, so no jitter of its neighbors
        model, *variants = (self.scorer.extract_features(image.masked_fill(broken, 0)) for image in predictions)
        if self._features is None:
            self._features = self.scorer.extract_features(self._keep_source(pairs, source))
        rows = [model, self._features.expand(len(pairs)), self.scorer.extract_features(driving), *variants]
        if COMPRESSED in self.rows:
            rows.append(self.scorer.extract_features(compress(driving)))
        return rows


def _named(pair: Pair) -> str:
    return f"{pair.source_video} frame {pair.source_frame}, driven by {pair.driving_video} frame {pair.driving_frame}"


def _is_sequence(pairs: Sequence[Pair]) -> bool:
    """True if these are evenly spaced frames of one clip."""
    frames = [pair.driving_frame for pair in pairs if isinstance(pair.driving_frame, int)]
    steps = {later - earlier for earlier, later in pairwise(frames)}
    return len({pair[:3] for pair in pairs}) == 1 and len(frames) == len(pairs) and len(steps) == 1 and min(steps) > 0
