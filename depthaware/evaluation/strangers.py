"""CSIM of strangers: the similarity of different persons of the data, without which no CSIM can be read."""

import math
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.clip_reader import ClipReader
from ..metrics import bootstrap_interval, csim
from .metric_specs import Scorer
from .pairs import PairList, person_of

_PERSONS = 50  # at most, evenly spread: 1225 pairs of them


class Strangers(NamedTuple):
    """CSIM between images of different persons.

    Attributes:
        csim: mean over all pairs of persons; NaN with fewer than two faces.
        low: lower end of the 95 % bootstrap interval over persons, of each person's mean to all others.
        high: upper end.
        persons: number of persons with a face.
    """

    csim: float
    low: float
    high: float
    persons: int


def csim_of_strangers(pair_list: PairList, reader: ClipReader, scorer: Scorer) -> Strangers:
    """Compare one image of each person with those of all others.

    Args:
        pair_list: pairs of the evaluation; the first image of each person counts.
        reader: of the clips.
        scorer: with an extractor of identity.
    """
    images: dict[str, tuple[str, int | str]] = {}
    for pair in pair_list.pairs:
        for video, frame in (pair[:2], pair[2:4]):
            images.setdefault(person_of(video, pair_list.persons), (video, frame))
    chosen = list(images.values())
    count = min(len(chosen), _PERSONS)
    found = [_embedding(*chosen[i * len(chosen) // count], reader, scorer) for i in range(count)]
    embeddings = torch.cat([row for row in found if row is not None and row.isfinite().all()] or [torch.empty(0, 1)])
    people = list(combinations(range(len(embeddings)), 2))
    if not people:
        return Strangers(math.nan, math.nan, math.nan, len(embeddings))
    one, two = torch.tensor(people).unbind(1)
    similarity = torch.full((len(embeddings), len(embeddings)), torch.nan)
    similarity[one, two] = similarity[two, one] = csim(embeddings[one], embeddings[two]).float()
    means = similarity.nanmean(1)
    return Strangers(means.mean().item(), *bootstrap_interval(means), len(embeddings))


def _embedding(video: str, frame: int | str, reader: ClipReader, scorer: Scorer) -> Tensor | None:
    """(1, E), NaN without a face; None if the image cannot be read, which is reported for its pairs."""
    try:
        image = reader.frame(video, frame)
    except (ValueError, OSError):
        return None
    return scorer.extract_features(image).features["identity"]
