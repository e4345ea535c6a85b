"""Motion templates: the key points of a driving video as a file, so that it is searched and detected once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import torch
from safetensors.torch import save as serialize
from torch import Tensor

from ..faces import BlazeFaceDetector
from ..faces.face import FaceDetector
from ..keypoints import Keypoints
from ..media.atomic import whole_file
from ..media.scan import FINEST, MAX_RATE, MIN_RATE
from ..media.threads import AHEAD, prefetch
from ..media.video import Frame, Progress, Video
from ..pretrained.downloads import check_safetensors
from ..pretrained.fingerprint import detector_fingerprint
from ..pretrained.options import short
from ..pretrained.tensors import read_header, read_metadata, read_tensors
from .driving import DrivingFrame, fitter, follow_face, in_batches, tracked_frames
from .inputs import as_driving, check_precision, device_of
from .motion import join, on_device, pose_distance, select
from .options import AnimateOptions, Driving, SupportsAnimation

SUFFIX = ".safetensors"
_FORMAT, _VERSION = "depthaware motion template", "1"
_DTYPES = {
    "keypoints": torch.float32,
    "jacobian": torch.float32,
    "ticks": torch.int64,
    "scenes": torch.int32,
    "found": torch.bool,
    "references": torch.int64,
}


@dataclass(frozen=True, eq=False)
class MotionTemplate:
    """Motion of a driving video, a driving of `animate` for any source and any model with the same detector.

    Made by `record_motion`; smoothing, strength and the choice among reference frames come later, with the source.

    Attributes:
        keypoints: of T frames, (T, N, 2), on the CPU.
        ticks: (T,) times in multiples of `time_base`, rising.
        scenes: (T,) number of the scene of each frame, rising from 0 by ones.
        found: (T,) False where a face was searched and not found.
        references: (S,) the frame from which the motion of each scene starts.
        rate: average frames per second.
        time_base: in seconds.
        detector: fingerprint of the key point detector.
        path: of the file, or of the video that was recorded; None for images.
        audio: of that video, see `Video`; a file has none.
        audio_copied: likewise.
    """

    keypoints: Keypoints
    ticks: Tensor
    scenes: Tensor
    found: Tensor
    references: Tensor
    rate: Fraction
    time_base: Fraction
    detector: str
    path: Path | None = None
    audio: str | None = None
    audio_copied: bool = False

    @property
    def frames(self) -> int:
        """Their number."""
        return len(self.ticks)

    def __iter__(self) -> Iterator[Frame]:
        """Raise ValueError: a template has no images."""
        raise ValueError(f"{self.path or 'driving'}: is a motion template, which has no images, expected a video")

    def driving_frames(self, keypoints: Keypoints, size: int) -> Iterator[DrivingFrame]:
        """Frames as `Animator.animate` takes them, with the template's key points, on a device, instead of images."""
        no_image = torch.empty(0, 3, size, size, device=keypoints.value.device)
        facts = zip(self.ticks.tolist(), self.scenes.tolist(), self.found.tolist(), strict=True)
        for row, (tick, scene, found) in enumerate(facts):
            known = select(keypoints, slice(row, row + 1))
            yield DrivingFrame(no_image, tick * self.time_base, scene, found, keypoints=known)

    def save(self, path: str | Path) -> None:
        """Write the file, complete or not at all."""
        tensors = {"keypoints": self.keypoints.value, "jacobian": self.keypoints.jacobian}
        tensors |= {name: getattr(self, name) for name in ("ticks", "scenes", "found", "references")}
        facts = {"format": _FORMAT, "version": _VERSION, "detector": self.detector}
        facts |= {"rate": str(self.rate), "time_base": str(self.time_base)}
        with whole_file(path) as part:
            # Not save_file, whose files are readable by their owner only.
            part.write_bytes(serialize({name: x.contiguous() for name, x in tensors.items() if x is not None}, facts))

    @classmethod
    def load(cls, path: str | Path) -> MotionTemplate:
        """Read a file.

        Raises:
            ValueError: if it is no motion template, of another version, or damaged.
        """
        path = Path(path)
        check_safetensors(path)
        names, facts = read_header(path), read_metadata(path)
        if facts.get("format") != _FORMAT:
            raise ValueError(f"{path}: expected a motion template of --save-motion, got other tensors")
        if facts.get("version") != _VERSION:
            raise ValueError(f"{path}: expected a motion template of version {_VERSION}, got {facts.get('version')}")
        if names.keys() | {"jacobian"} != _DTYPES.keys():
            known, found = ", ".join(_DTYPES), short(", ".join(sorted(names)) or "nothing")[1:-1]
            raise ValueError(f"{path}: is damaged, expected {known}, got {found}")
        tensors: dict[str, Any] = read_tensors(path)
        if problem := _problem(tensors):
            raise ValueError(f"{path}: is damaged, {problem}")
        keypoints = Keypoints(tensors.pop("keypoints"), tensors.pop("jacobian", None))
        try:
            rate, time_base = _fraction(facts["rate"]), _fraction(facts["time_base"])
            if not (MIN_RATE <= rate <= MAX_RATE and FINEST <= time_base <= 1 / MIN_RATE):
                raise ValueError
            return cls(keypoints, **tensors, rate=rate, time_base=time_base, detector=facts["detector"], path=path)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{path}: is damaged, expected rate, time base and detector in its metadata") from error

    def reference_frames(self, kp_source: Keypoints, options: AnimateOptions) -> dict[int, int]:
        """Choose the reference frame of each scene, by its number, as the option `initial_frame` wants."""
        chosen, initial = dict(enumerate(self.references.tolist())), options.initial_frame
        if initial == "best":
            distance = pose_distance(Keypoints(kp_source.value.cpu()), self.keypoints)
            distance[~self.found & self.found.any()] = torch.inf
            for scene in chosen:
                chosen[scene] = int(distance.masked_fill(self.scenes != scene, torch.inf).argmin())
        elif isinstance(initial, int):
            if initial >= self.frames:
                known = f"one of the driving frames, 0 to {self.frames - 1}"
                raise ValueError(f"initial_frame: expected 'auto', 'best' or {known}, got {initial}")
            chosen[int(self.scenes[initial])] = initial
        return chosen

    def check(self, fingerprint: str, options: AnimateOptions) -> None:
        """Raise ValueError for another detector's key points, and for options that come too late."""
        name = self.path or "driving"
        if fingerprint != self.detector:
            raise ValueError(
                f"{name}: expected key points of this model's detector ({fingerprint[:8]}), got those of another "
                f"({self.detector[:8]}): record it again with these weights"
            )
        late = {"follow": options.follow, "scenes=False": not options.scenes}
        if wrong := [option for option, given in late.items() if given]:
            raise ValueError(f"{name}: is a motion template, in which crops and scenes are settled, got {wrong[0]}")


@torch.inference_mode()
def record_motion(
    model: SupportsAnimation,
    driving: str | Path | Driving,
    options: AnimateOptions | None = None,
    *,
    detector: FaceDetector | None = None,
    progress: Progress = lambda done, total: None,
) -> MotionTemplate:
    """Detect the motion of a driving video once, for any number of sources.

    Args:
        model: on the target device.
        driving: as in `animate`, but no generator, since it is read twice.
        options: those of `animate`, of which `fit`, `follow`, `scenes`, `batch_size` and an `initial_frame` by number
            count here; the others are for `animate`.
        detector: of faces; `BlazeFaceDetector()` if None.
        progress: called with the numbers of frames done and in all, the latter 0 if it is not known.
    """
    check_precision(model)
    options, driving = options or AnimateOptions(), as_driving(driving)
    if iter(driving) is driving:
        raise ValueError("driving: is read twice, expected no generator")
    track = follow_face(driving, options, detector or BlazeFaceDetector(), []) if options.tracks else None
    frames = tracked_frames(driving, track, fitter(model.image_size, options.fit, device_of(model)), options)
    keypoints, rows, base = [], [], getattr(driving, "time_base", Fraction(1, 25))
    with prefetch(in_batches(frames, options.batch_size), AHEAD) as ahead:
        for batch in ahead:
            keypoints.append(model.detect_keypoints(torch.cat([frame.image for frame in batch])))
            rows += [(round(frame.time / base), frame.scene, frame.found) for frame in batch]
            progress(len(rows), getattr(driving, "frames", 0))
    ticks, scenes, found = (torch.tensor(column) for column in zip(*rows, strict=True))
    template = MotionTemplate(
        keypoints=on_device(join(keypoints), torch.device("cpu")),
        ticks=ticks,
        scenes=scenes.int(),
        found=found,
        references=torch.tensor([index or 0 for index in track.references] if track else [0]),
        rate=getattr(driving, "rate", Fraction(25)),
        time_base=base,
        detector=detector_fingerprint(model),
        **{name: getattr(driving, name) for name in ("path", "audio", "audio_copied") if hasattr(driving, name)},
    )
    initial = "auto" if options.initial_frame == "best" else options.initial_frame
    chosen = template.reference_frames(template.keypoints, replace(options, initial_frame=initial))
    return replace(template, references=torch.tensor(list(chosen.values())))


@overload
def open_driving(driving: str | Path | Video | MotionTemplate) -> Video | MotionTemplate: ...
@overload
def open_driving(driving: str | Path | Driving) -> Driving: ...
def open_driving(driving: str | Path | Driving) -> Driving:
    """Open a motion template or a driving video given as a path, and check other driving frames, see `as_driving`."""
    if isinstance(driving, str | Path) and Path(driving).suffix.lower() == SUFFIX:
        return MotionTemplate.load(driving)
    return driving if isinstance(driving, MotionTemplate) else as_driving(driving)


def _fraction(text: str) -> Fraction:
    """Read a fraction of two whole numbers; others, such as 1e999999999, may take forever."""
    if not re.fullmatch(r"\d{1,12}(/\d{1,12})?", text, re.ASCII):
        raise ValueError
    return Fraction(text)


def _problem(tensors: dict[str, Any]) -> str | None:
    """Describe what is wrong with the tensors of a file; None if nothing is."""
    for name, tensor in tensors.items():
        if tensor.dtype != _DTYPES[name]:
            return f"expected {name} in {_DTYPES[name]}, got {tensor.dtype}"
    value, scenes, references = (tensors[name] for name in ("keypoints", "scenes", "references"))
    count, points = value.shape[0], value.shape[1] if value.ndim == 3 else 0
    shapes = {"keypoints": (count, points, 2), "jacobian": (count, points, 2, 2)}
    for name, tensor in tensors.items():
        expected = shapes.get(name, (len(references) if references.ndim else 0,) if name == "references" else (count,))
        if tuple(tensor.shape) != expected or 0 in expected:
            return f"expected {name} of the shape {expected}, got {tuple(tensor.shape)}"
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"expected finite {name}"
    if (tensors["ticks"].diff() <= 0).any():
        return "expected times that rise"
    if [scene for scene, _ in groupby(scenes.tolist())] != list(range(len(references))):
        return f"expected scenes numbered from 0 to {len(references) - 1}, one reference each"
    if ((references < 0) | (references >= count)).any() or (scenes[references] != torch.arange(len(references))).any():
        return "expected each reference within its scene"
    return None
