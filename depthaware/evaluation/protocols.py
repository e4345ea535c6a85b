"""Evaluation protocols: pairs of frames of the clips in a folder."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from ..data.clip_reader import Clip, ClipReader
from ..media.image import find_images, read_image
from .pairs import Failure, Pair, PairList

_NEIGHBORS, _DIFFERENT = 16, 0.15  # neighbors that are compared, and the largest difference (of 0 to 1) of a video


def same_identity(reader: ClipReader, clips: Sequence[Clip], *, every: int = 1) -> PairList:
    """Reconstruction: the first frame of each clip, driven by every `every`-th of its later frames."""
    lengths, failures = _lengths(reader, clips, smallest=2)
    pairs = [Pair(name, 0, name, i) for name, frames in lengths.items() for i in _driving(frames, every)]
    return PairList(pairs, failures, dict(clips))


def cross_identity(
    reader: ClipReader, clips: Sequence[Clip], *, every: int = 1, sources_per_clip: int = 1, seed: int = 0
) -> PairList:
    """Reenactment: each clip drives the first frame of clips of other identities.

    Args:
        reader: of the clips.
        clips: names and identities.
        every: use every n-th driving frame; the first is the reference of relative motion and left out.
        sources_per_clip: number of sources that each clip drives.
        seed: of the choice of sources; the same seed and clips give the same pairs.

    Raises:
        ValueError: if all clips are of one identity.
    """
    lengths, failures = _lengths(reader, clips, smallest=2)
    rng, pairs = random.Random(seed), []
    for name, identity in clips:
        if name not in lengths:
            continue
        others = [clip.name for clip in clips if clip.identity != identity and clip.name in lengths]
        if not others:
            raise ValueError(f"cross-identity: expected clips of at least 2 identities, all are of {identity!r}")
        for _ in range(min(sources_per_clip, len(others))):
            # Only `random()` is guaranteed to give the same numbers in every version of Python.
            source = others.pop(int(rng.random() * len(others)))
            pairs += [Pair(source, 0, name, i) for i in _driving(lengths[name], every)]
    return PairList(pairs, failures, dict(clips))


def random_pairs(
    reader: ClipReader,
    clips: Sequence[Clip],
    *,
    pairs: int = 2083,
    videos: int = 100,
    cross_identity: bool = False,
    seed: int = 0,
) -> PairList:
    """Random pairs of frames of random videos, as in MarioNETte's and the paper's test sets.

    Args:
        reader: of the clips.
        clips: names and identities.
        pairs: number of pairs; the paper has 2083 within VoxCeleb1, and 2000 across the persons of CelebV.
        videos: number of videos that they are drawn from; all where there are fewer.
        cross_identity: take source and driving frame from videos of two persons instead of from one video.
        seed: of the choice; the same seed and clips give the same pairs.

    Returns:
        The pairs, sorted by video, so that each is decoded few times.

    Raises:
        ValueError: if `pairs` or `videos` is not positive, or all drawn videos are of one person.

    Reference:
        Hong et al. 2022, section 4.1 and B.1; Ha et al. 2020 (MarioNETte).
    """
    if pairs < 1 or videos < 1:
        raise ValueError(f"expected at least 1 pair of 1 video, got {pairs} of {videos}")
    lengths, failures = _lengths(reader, clips, smallest=2)
    rng = random.Random(seed)

    def draw(count: int) -> int:  # only `random()` is guaranteed to give the same numbers in every version of Python
        return int(rng.random() * count)

    usable = [clip for clip in clips if clip.name in lengths]
    drawn = [usable.pop(draw(len(usable))) for _ in range(min(videos, len(usable)))]
    others = {one.name: [two for two in drawn if two.identity != one.identity] for one in drawn}
    if cross_identity and drawn and not all(others.values()):
        raise ValueError(f"random pairs: expected videos of at least 2 persons, all are of {drawn[0].identity!r}")
    found = []
    for _ in range(pairs if drawn else 0):
        source = driving = drawn[draw(len(drawn))]
        source_frame, driving_frame = draw(lengths[source.name]), draw(lengths[driving.name] - 1)
        if cross_identity:
            driving = others[source.name][draw(len(others[source.name]))]
            driving_frame = draw(lengths[driving.name])
        elif driving_frame >= source_frame:
            driving_frame += 1  # another frame than the source
        found.append(Pair(source.name, source_frame, driving.name, driving_frame))
    return PairList(sorted(found, key=_by_video), failures, dict(clips))


def _by_video(pair: Pair) -> tuple[str, str, int | str, int | str]:
    return pair.driving_video, pair.source_video, pair.driving_frame, pair.source_frame


def _lengths(reader: ClipReader, clips: Sequence[Clip], smallest: int) -> tuple[dict[str, int], list[Failure]]:
    lengths, failures = {}, []
    for name, _ in clips:
        try:
            lengths[name] = reader.count(name)
            check_is_video(reader.find(name))
            if lengths[name] < smallest:
                raise ValueError(f"{reader.find(name)}: has {lengths.pop(name)} frame, expected at least {smallest}")
        except (ValueError, OSError) as error:
            lengths.pop(name, None)
            failures.append(Failure(name, reader.reason(error)))
    return lengths, failures


def check_is_video(path: Path) -> None:
    """Raise ValueError for a folder of images that are no frames of a video, but portraits of many persons, say.

    Neighbors in a video of a head differ by at most 0.1 even at one frame per second, portraits by 0.25.
    """
    images = find_images(path) if path.is_dir() else []
    differences = []
    for i in sorted({k * (len(images) - 1) // _NEIGHBORS for k in range(_NEIGHBORS)}) if len(images) > 1 else ():
        try:
            one, two = (Pillow.fromarray(read_image(images[k])) for k in (i, i + 1))
        except (ValueError, OSError):
            continue  # damaged: reported with its pair
        if one.size != two.size:
            sizes = " and ".join(f"{image.width} x {image.height}" for image in (one, two))
            raise ValueError(f"{path.name}: has images of {sizes} pixels, expected frames of one video")
        small = (np.asarray(image.convert("L").resize((32, 32), Pillow.Resampling.BOX), float) for image in (one, two))
        differences.append(np.abs(np.subtract(*small)).mean() / 255)
    if differences and np.median(differences) > _DIFFERENT:
        raise ValueError(
            f"{path.name}: its images differ by {np.median(differences):.2f} from one to the next, expected frames of "
            f"one video, which differ by less than {_DIFFERENT}; portraits are no clip"
        )


def _driving(frames: int, every: int) -> range:
    """Every `every`-th frame without the first; at least one."""
    return range(min(every, frames - 1), frames, every)
