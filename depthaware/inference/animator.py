"""Animate one source image, batch by batch of driving frames."""

import math
import time as clock
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice

import torch
from torch import Tensor

from ..faces import BlazeFaceDetector
from ..faces.face import FaceDetector
from ..faces.tracking import DrivingTrack
from ..keypoints import Keypoints, face_scale, transfer_motion
from ..media.image import AnyImage, Image, to_uint8
from ..media.threads import AHEAD, prefetch
from ..pretrained.fingerprint import detector_fingerprint
from .driving import (
    DrivingFrame,
    LiveFrames,
    fitter,
    follow_face,
    in_batches,
    reference_candidates,
    timed,
    tracked_frames,
)
from .inputs import check_precision, device_of
from .motion import DrivingMotion, join, pose_distance, select
from .options import AnimateOptions, Driving, SupportsAnimation
from .source import Source
from .template import MotionTemplate


class Animator:
    """Animates one source image, for callers with a loop of their own: a camera, a live view.

    Called with a driving image of any shape, it finds and follows the face there and returns a frame of the output,
    the source image moving. `step` is one level below, on batches of the model's inputs.

    Args:
        model: on the target device.
        source_image: path, image of Pillow, uint8 (H, W, 3), or floats (3, H, W) in [0, 1], see `load_image`.
        options: those of `animate`.
        detector: of faces; `BlazeFaceDetector()` if None.

    Attributes:
        source: the image, its faces and their crops.
        source_image: (1, 3, S, S) in [0, 1], the model's input with the first face, with S = model.image_size.
        initial_frames: index of the driving frame that is the reference of each scene, by number of the scene; filled
            by `read`.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: SupportsAnimation,
        source_image: AnyImage,
        options: AnimateOptions | None = None,
        *,
        detector: FaceDetector | None = None,
    ) -> None:
        check_precision(model)
        self.model, self.options = model, options or AnimateOptions()
        self._fit = fitter(model.image_size, self.options.fit, device_of(model))
        self.source = Source(source_image, model.image_size, self.options, detector)
        squares = self.source.squares.to(self.device)
        self.source_image = squares[:1]
        self._sources = [model.encode_source(square) for square in squares.split(1)]
        self._detector = detector or BlazeFaceDetector()
        self.restart()

    def restart(self) -> None:
        """Forget the driving video so far."""
        self._reference: Keypoints | None = None
        self._scales: list[bool | Tensor] = [False] * len(self._sources)
        self._motion = DrivingMotion(smooth=self.options.smooth)
        self._live: LiveFrames | None = None
        self.initial_frames: dict[int, int] = {}

    @property
    def device(self) -> torch.device:
        """The model's."""
        return device_of(self.model)

    @property
    def reference(self) -> Keypoints | None:
        """Driving key points (batch 1) that relative motion starts from; those of the first frame unless set before."""
        return self._reference

    @reference.setter
    @torch.inference_mode()
    def reference(self, keypoints: Keypoints | None) -> None:
        self._reference = keypoints
        if keypoints is not None and self.options.adaptive_scale and self.options.mode == "relative":
            # Waits for the device, so once.
            self._scales = [face_scale(source.keypoints, keypoints) for source in self._sources]

    def __call__(self, image: Image | Tensor, time: float | None = None) -> Image:
        """Generate the output frame of the next driving image.

        Until a face was seen there, and long after it was seen last, the source is at rest.

        Args:
            image: uint8 (H, W, 3), or floats (3, H, W) in [0, 1].
            time: in seconds; the clock's if None.

        Returns:
            uint8 (H, W, 3) of the size of the source image, or (S, S, 3), see the option `paste`.
        """
        if self._live is None:
            self._live = LiveFrames(self._fit, self.options, self._detector)
        frame = self._live(image, Fraction(clock.monotonic() if time is None else time))
        return self.source.output(list(to_uint8(self.animate([frame]))))

    @torch.inference_mode()
    def step(self, frames: Tensor) -> Tensor:
        """Generate a square for each driving frame and each animated face of the source.

        Args:
            frames: (B, 3, S, S) in [0, 1], see `fit`; B may be 0.

        Returns:
            (B F, 3, S, S) in [0, 1]: the F faces under the first driving frame, under the second, and so on.
        """
        if not len(frames):
            return frames
        kp_driving = self.model.detect_keypoints(frames)
        if self.reference is None:
            self.reference = select(kp_driving, slice(1))
        return self._drive(kp_driving, self.reference)

    @torch.inference_mode()
    def animate(self, frames: Sequence[DrivingFrame]) -> Tensor:
        """`step` for consecutive frames of `read`, each relative to the reference of its scene."""
        keypoints = self._detect(frames)
        made = []
        for part, reference in self._motion(keypoints, frames):
            if reference is not None and reference is not self.reference:
                self.reference = reference
            made.append(self._drive(part, reference))
        return made[0] if len(made) == 1 else torch.cat(made)

    def _detect(self, frames: Sequence[DrivingFrame]) -> Keypoints:
        known = [frame.keypoints for frame in frames if frame.keypoints is not None]
        return join(known) if known else self.model.detect_keypoints(torch.cat([frame.image for frame in frames]))

    def _drive(self, kp_driving: Keypoints, reference: Keypoints | None) -> Tensor:
        """Generate squares (B F, 3, S, S); of the source at rest if there is no reference yet."""
        mode, made = self.options.mode, []
        if reference is None:
            mode, reference = "relative", kp_driving
        for source, scale in zip(self._sources, self._scales, strict=True):
            moved = transfer_motion(source.keypoints, kp_driving, reference, mode=mode, adaptive_scale=scale)
            made.append(self.model.drive(source, moved, dtype=self.options.dtype))
        return made[0] if len(made) == 1 else torch.stack(made, dim=1).flatten(0, 1)

    def fit(self, image: Image | Tensor) -> Tensor:
        """Turn an image of any shape into the model's input (1, 3, S, S) on its device, as `fit_square` does."""
        return self._fit(image, None)

    def read(self, driving: Driving) -> Iterator[list[DrivingFrame]]:
        """Find the references in a driving video, then read it as inputs of `animate`, `batch_size` frames at a time.

        Raises:
            ValueError: if there is no such initial frame, or `driving` can be read only once and would be read twice.
        """
        self.restart()
        if isinstance(driving, MotionTemplate):
            return self._read_template(driving)
        options, once = self.options, iter(driving) is driving
        if once and options.initial_frame not in ("auto", 0):
            raise ValueError(
                f"initial_frame={options.initial_frame!r}: reads the driving video twice, expected no generator"
            )
        if once and options.tracks:
            return in_batches(LiveFrames(self._fit, options, self._detector).read(driving), options.batch_size)
        track = follow_face(driving, options, self._detector, self.source.faces) if options.tracks else None
        self._find_references(driving, track)
        return in_batches(tracked_frames(driving, track, self._fit, options), options.batch_size)

    @torch.inference_mode()
    def _read_template(self, template: MotionTemplate) -> Iterator[list[DrivingFrame]]:
        template.check(detector_fingerprint(self.model), self.options)
        self.initial_frames = template.reference_frames(self._sources[0].keypoints, self.options)
        frames = list(template.driving_frames(self.model.image_size, self.device))
        for scene, index in self.initial_frames.items():
            self._motion.references[scene] = frames[index].keypoints
        return in_batches(frames, self.options.batch_size)

    @torch.inference_mode()
    def _find_references(self, driving: Driving, track: DrivingTrack | None) -> None:
        """Set the reference of each scene, of several candidates the one whose pose is nearest to the source's."""
        candidates = reference_candidates(self.options, track)
        if not candidates:
            return  # the first frame, without reading it twice
        frames = enumerate(tracked_frames(driving, track, self._fit, self.options))
        wanted = candidates if isinstance(candidates, range) else frozenset(candidates)
        chosen = (item for item in islice(frames, candidates[-1] + 1) if item[0] in wanted)
        nearest: dict[int, float] = {}
        with prefetch(in_batches(chosen, self.options.batch_size), AHEAD) as ahead:
            for batch in ahead:
                keypoints = self.model.detect_keypoints(torch.cat([frame.image for _, frame in batch]))
                distances = pose_distance(self._sources[0].keypoints, keypoints).tolist()
                for row, ((index, frame), distance) in enumerate(zip(batch, distances, strict=True)):
                    if distance < nearest.get(frame.scene, math.inf):
                        nearest[frame.scene], self.initial_frames[frame.scene] = distance, index
                        self._motion.references[frame.scene] = select(keypoints, slice(row, row + 1))
        if not nearest:
            count = sum(1 for _ in timed(driving))
            known = f"one of the driving frames, 0 to {count - 1}"
            raise ValueError(f"initial_frame: expected 'auto', 'best' or {known}, got {self.options.initial_frame}")
