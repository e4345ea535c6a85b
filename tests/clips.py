"""Small videos and images made on the spot, and readers of files."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def draw_image(index: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A smooth image that is different at every corner, and for every index."""
    y, x = np.mgrid[: size[0], : size[1]]
    red, green, blue = 255 * x / size[1], 255 * y / size[0], np.full_like(x, 12 * index % 256)
    return np.stack((red, green, blue), axis=-1).astype(np.uint8)


def make_clip(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rotation: int = 0,
    mirror: str = "",
    audio: str | None = None,
    images: list[np.ndarray] | None = None,
    options: dict[str, str] | None = None,
    **codec_options: str,
) -> Path:
    """Write a video of `draw_image`s (or of `images`), with a sine tone if `audio` names a codec.

    `options` are those of the container.
    """
    with av.open(str(path), "w", options=options or {}) as output:
        video = output.add_stream(codec, rate=25, options=codec_options)
        video.height, video.width, video.pix_fmt = *size, "rgb8" if codec == "gif" else "yuv420p"
        video.codec_context.time_base = time_base
        if rotation or mirror:
            video.set_display_rotation(rotation, **({mirror: True} if mirror else {}))
        sound = output.add_stream(audio, rate=48000, layout="stereo") if audio else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(images[i] if images else draw_image(i, size), format="rgb24")
            frame.pts, frame.time_base = pts[i] if pts else i, time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound:
            _add_tone(output, sound, samples=max(frames, 1) * 48000 // 25)
    return path


def make_moving_clip(path: Path, codec: str = "libx264", pts: list[int] | None = None, **options: str) -> Path:
    """Write 40 frames that move, with these options of the codec."""
    images = [np.roll(draw_image(i), 5 * i, axis=1) for i in range(40)]
    pts = pts or [24 * i for i in range(40)]
    return make_clip(path, 40, codec=codec, pts=pts, time_base=Fraction(1, 600), images=images, **options)


def _add_tone(output, sound, samples: int) -> None:
    resampler = av.AudioResampler(
        format=sound.codec_context.format.name,
        layout="stereo",
        rate=48000,
        frame_size=sound.codec_context.frame_size or 1024,
    )
    tone = np.sin(np.arange(samples) * 0.06).astype(np.float32) / 4
    frame = av.AudioFrame.from_ndarray(np.stack((tone, tone)), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        output.mux(sound.encode(part))
    output.mux(sound.encode(None))


def packets(path: Path, kind: str) -> list[bytes]:
    """The packets of the first stream of that kind ("audio" or "video")."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


def times(path: Path) -> list[Fraction]:
    """Presentation times of the frames of a video."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def file_contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their relative paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pattern(person: int, frames: int = 12) -> list[np.ndarray]:
    """A 32 x 32 pattern of the person's own that brightens from frame to frame, 3 gray levels each time."""
    coarse = np.random.default_rng(person).integers(20, 160, (4, 4, 3))
    return [(coarse + 3 * i).repeat(8, 0).repeat(8, 1).astype(np.uint8) for i in range(frames)]


def make_training_clips(folder: Path) -> Path:
    """Six lossless clips of `pattern`s of three persons, with a manifest: a has three clips, b two, c one."""
    (folder / "train" / "clips").mkdir(parents=True)
    rows = ["name,kind,split,identity"]
    for i, name in enumerate(("a1", "a2", "a3", "b1", "b2", "c1")):
        images = pattern(i)
        make_clip(folder / "train" / "clips" / f"{name}.mp4", 12, (32, 32), images=images, qp="0")
        rows.append(f"{name},clip,train,{name[0]}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder
