"""Pairs in, scores out, in batches: the model beside copying the source and beside a perfect result."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..dagan import DaGAN, SourceEncoding
from ..keypoints import transfer_motion
from ..metrics import FID
from .clip_reader import ClipReader
from .metric_specs import Extractor, Features, Scorer
from .pairs import Pair, unite_names

Mode = Literal["auto", "relative", "absolute"]
PREDICTIONS = ("model", "copy", "perfect")
"""Whose results are scored: the model's, the source as it is, the driving frame as it is."""


class Result(NamedTuple):
    """Scores of one pair.

    Attributes:
        pair: what was compared.
        scores: a row for each of `PREDICTIONS`, a score for each metric, NaN where there is none; empty on failure.
        failure: why, or "".
    """

    pair: Pair
    scores: tuple[tuple[float, ...], ...]
    failure: str = ""


class Prediction(NamedTuple):
    """Some pairs and what the model made of them; images are (B, 3, H, W) in [0, 1]."""

    source: Tensor
    driving: Tensor
    prediction: Tensor


def evaluate(
    model: DaGAN,
    pairs: Sequence[Pair],
    footage: ClipReader,
    *,
    metrics: Sequence[str] = ("ssim", "psnr", "l1"),
    extractors: Mapping[str, Extractor] | None = None,
    mode: Mode = "auto",
    batch_size: int = 8,
    strict: bool = False,
) -> Iterator[Result]:
    """Score pairs while they come, in constant memory.

    Args:
        model: on the device where the work shall be done.
        pairs: what is compared with what.
        footage: where their frames come from, of the model's size.
        metrics: names out of `METRICS`.
        extractors: for those that look at faces, see `Scorer`.
        mode: "absolute" or "relative" motion; "auto" takes absolute where source and driver are of one video.
        batch_size: pairs at a time.
        strict: raise what is wrong with a pair, instead of reporting it.

    Returns:
        One for each pair, every clip under the first of its names; in another order than theirs where single pairs are
        between longer runs of one source.
    """
    evaluator = Evaluator(model, footage, Scorer(metrics, extractors=extractors), mode=mode, strict=strict)
    pairs = unite_names(pairs, footage)
    for batch in batches(pairs, batch_size):
        yield from evaluator([pairs[i] for i in batch])


def batches(pairs: Sequence[Pair], size: int) -> Iterator[list[int]]:
    """Cut pairs into batches that have one source in common or one each, and all have a truth or none.

    Returns:
        Indices into `pairs`, each once.
    """
    if size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {size}")
    singles: list[int] = []
    for (_, truth), group in groupby(range(len(pairs)), key=lambda i: (pairs[i][:2], pairs[i].has_truth)):
        run = list(group)
        if singles and (len(singles) == size or pairs[singles[0]].has_truth != truth):
            yield singles
            singles = []
        if len(run) == 1:
            singles += run
        else:
            yield from (run[start : start + size] for start in range(0, len(run), size))
    if singles:
        yield singles


class Evaluator:
    """Draws and scores batches of pairs; what belongs to a source alone is computed once.

    Args:
        model: on the device where the work shall be done.
        footage: where the frames come from.
        scorer: the metrics.
        mode: as in `evaluate`.
        strict: as in `evaluate`.
        fid: to be updated, one for each of `PREDICTIONS`.
    """

    def __init__(
        self,
        model: DaGAN,
        footage: ClipReader,
        scorer: Scorer,
        *,
        mode: Mode = "auto",
        strict: bool = False,
        fid: Sequence[FID] = (),
    ) -> None:
        if mode not in ("auto", "relative", "absolute"):
            raise ValueError(f"mode: expected 'auto', 'relative' or 'absolute', got {mode!r}")
        self.model, self.footage, self.scorer = model, footage, scorer
        self.mode, self.strict, self.fid = mode, strict, fid
        self._source: tuple[list[tuple], SourceEncoding, Features] | None = None

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
                results[i] = Result(pair, (), self.footage.reason(error))
        if frames:
            device = next(self.model.parameters()).device
            source, driving, initial = (torch.cat(images).to(device) for images in zip(*frames.values(), strict=True))
            scored = self._score([pairs[i] for i in frames], source, driving, initial)
            results |= dict(zip(frames, scored, strict=True))
        return [results[i] for i in range(len(pairs))]

    @torch.inference_mode()
    def draw(self, pair: Pair) -> Prediction:
        """The images of a pair."""
        device = next(self.model.parameters()).device
        source, driving, initial = (image.to(device) for image in self._read(pair))
        return Prediction(source, driving, self._predict([pair], self._encode([pair], source)[0], driving, initial))

    def _is_relative(self, pair: Pair) -> bool:
        return self.mode == "relative" or (self.mode == "auto" and not pair.has_truth)

    def _read(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Source, driving and initial frame; the last is not looked at where motion is absolute."""
        source = self.footage.frame(pair.source_video, pair.source_frame)
        initial = self.footage.frame(pair.driving_video, pair.initial_frame) if self._is_relative(pair) else source
        return source, self.footage.frame(pair.driving_video, pair.driving_frame), initial

    def _encode(self, pairs: Sequence[Pair], images: Tensor) -> tuple[SourceEncoding, Features]:
        """Of one source, or of one for each pair."""
        keys: list[tuple] = [pair[:2] for pair in pairs]
        if len(set(keys)) == 1:
            keys, images = keys[:1], images[:1]
        if self._source is None or self._source[0] != keys:
            self._source = keys, self.model.encode_source(images), self.scorer.look(images)
        return self._source[1:]

    def _predict(self, pairs: Sequence[Pair], source: SourceEncoding, driving: Tensor, initial: Tensor) -> Tensor:
        keypoints = self.model.detect_keypoints(driving)
        if self._is_relative(pairs[0]):
            one = len({(pair.driving_video, pair.initial_frame) for pair in pairs}) == 1
            kp_initial = self.model.detect_keypoints(initial[:1] if one else initial)
            keypoints = transfer_motion(source.keypoints, keypoints, kp_initial)
        return self.model.drive(source, keypoints)

    def _score(self, pairs: Sequence[Pair], source: Tensor, driving: Tensor, initial: Tensor) -> list[Result]:
        encoded, look = self._encode(pairs, source)
        prediction = self._predict(pairs, encoded, driving, initial)
        finite = prediction.isfinite().flatten(1).all(1)
        if self.strict and not finite.all():
            raise ValueError(f"{_named(pairs[int(finite.int().argmin())])}: the prediction is not finite")
        copied, perfect = look.expand(len(pairs)), self.scorer.look(driving)
        shown = prediction.masked_fill(~finite.view(-1, 1, 1, 1), 0)  # no face: no jitter beside it either
        made = (self.scorer.look(shown), copied, perfect)
        flags = dict(truth=pairs[0].has_truth, sequence=_is_sequence(pairs))
        scores = torch.stack([self.scorer.score(seen, copied, perfect, **flags) for seen in made], dim=1)
        for fid, seen in zip(self.fid, made if finite.any() else (), strict=False):
            fid.update(seen.images[finite], driving[finite])
        return [
            Result(pair, tuple(map(tuple, rows))) if ok else Result(pair, (), "the prediction is not finite")
            for pair, rows, ok in zip(pairs, scores.tolist(), finite.tolist(), strict=True)
        ]


def _named(pair: Pair) -> str:
    return f"{pair.source_video} frame {pair.source_frame}, driven by {pair.driving_video} frame {pair.driving_frame}"


def _is_sequence(pairs: Sequence[Pair]) -> bool:
    """Whether these are evenly spaced frames of one clip."""
    frames = [pair.driving_frame for pair in pairs if isinstance(pair.driving_frame, int)]
    steps = {later - earlier for earlier, later in pairwise(frames)}
    return len({pair[:3] for pair in pairs}) == 1 and len(frames) == len(pairs) and len(steps) == 1 and min(steps) > 0
