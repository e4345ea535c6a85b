"""Give seeded mutants of images, videos, sounds and motion templates to the commands that read them; count the ends.

    python examples/benchmarks/fuzz_media.py --mutants 5000

Each runs `depthaware animate` or `depthaware depth` in a forked process, with small random weights that are read and
optimized once. Good are a whole result, and one line with exit code 2 and nothing left behind, within 10 s of CPU, for
a refusal also within 1000 MB, the imports included. Linux.
"""

import argparse
import gc
import json
import random
import shutil
import struct
import sys
import tempfile
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import torch
from mutants import Tally, change_bytes, change_json, complaint, forked, small_weights

from depthaware import DaGAN, SelfSupDepthNet, animate, cli
from depthaware.cli.main import main
from depthaware.inference import optimize, record_motion
from depthaware.media.image import read_image
from depthaware.media.still import is_still
from depthaware.media.video import read_video

_ASSETS = files("depthaware") / "assets"
_CODECS = {  # of video and sound
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "webm": ("libvpx-vp9", "libopus"),
    "mkv": ("libx264", "libmp3lame"),
    "avi": ("mpeg4", "pcm_s16le"),
    "ts": ("libx264", "aac"),
}
IMAGES = ("png", "16.png", "palette.png", "jpg", "webp", "gif", "bmp", "tif", "lzw.tif", "avif", "jp2")
ANIMATIONS = ("moving.gif", "moving.png", "moving.webp")
SOUNDS = ("wav",)


def good_files(folder: Path) -> dict[str, Path]:
    """Write a small file of every kind, by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    with PIL.Image.open(str(_ASSETS / "portrait.png")) as image:
        portrait = image.convert("RGB").resize((72, 64))
    found = {kind: folder / f"a.{kind}" for kind in (*IMAGES, *ANIMATIONS, *SOUNDS, *_CODECS)}
    gray = np.asarray(portrait.convert("L")).astype(np.uint16) * 257
    others = {"16.png": PIL.Image.fromarray(gray), "palette.png": portrait.quantize(16)}
    for kind in IMAGES:
        options = {"compression": "tiff_lzw"} if kind == "lzw.tif" else {}
        others.get(kind, portrait).save(found[kind], **options)
    frames = [PIL.Image.fromarray(np.roll(portrait, 3 * i, axis=1)) for i in range(4)]
    for kind in ANIMATIONS:
        frames[0].save(found[kind], save_all=True, append_images=frames[1:], duration=40)
    for kind, codecs in _CODECS.items():
        _write_video(found[kind], *codecs, [np.asarray(frame) for frame in frames])
    with wave.open(str(found["wav"]), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes((8000 * np.sin(np.arange(4000) * 0.1)).astype(np.int16).tobytes())
    return found


def _write_video(path: Path, codec: str, audio: str, images: list[Any]) -> None:
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 72, 64, "yuv420p"
        sound = output.add_stream(audio, rate=48000, layout="stereo")
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        resampler = av.AudioResampler(
            sound.codec_context.format.name, "stereo", 48000, sound.codec_context.frame_size or 1024
        )
        tone = av.AudioFrame.from_ndarray(np.zeros((2, 7680), np.float32), format="fltp", layout="stereo")
        tone.sample_rate, tone.pts, tone.time_base = 48000, 0, Fraction(1, 48000)
        for part in (*resampler.resample(tone), *resampler.resample(None)):
            output.mux(sound.encode(part))
        output.mux(sound.encode(None))


def mutant(path: Path, data: bytes, rng: random.Random) -> bytes:
    """Change a file; of PNG half of the time with checksums that fit, of a template half of the time the header."""
    if path.suffix == ".safetensors" and rng.random() < 0.5:
        length = struct.unpack("<Q", data[:8])[0]
        head = json.dumps(change_json(json.loads(data[8 : 8 + length]), rng)).encode()
        return struct.pack("<Q", len(head)) + head + data[8 + length :]
    changed = change_bytes(data, rng)
    return _with_checksums(changed) if path.suffix == ".png" and rng.random() < 0.5 else changed


def _with_checksums(data: bytes) -> bytes:
    """Let the checksums of a PNG fit its chunks, which decoders look into only then."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack(">I", data[at : at + 4])[0]
        if end + 4 > len(data):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def doors(kind: str) -> list[tuple[str, ...]]:
    """The commands that read files of a kind, {0} in the place of the file, {1} in that of a result."""
    animate = ("animate", "--source", "{folder}/a.png", "--output", "{1}.mp4")
    if kind in IMAGES:
        still = ("animate", "--source", "{0}", "--driving", "{folder}/a.bmp", "--output", "{1}.png")
        source = ("animate", "--source", "{0}", "--driving", "{folder}/a.avi", "--output", "{1}.mp4")
        return [source, still, ("depth", "{0}", "--output", "{1}.png")]
    if kind in SOUNDS:
        return [(*animate, "--driving", "{folder}/a.avi", "--audio", "{0}")]
    if kind == "safetensors":
        return [(*animate, "--driving", "{0}")]
    others = [("animate", "--source", "{folder}/a.png", "--driving", "{0}", "--output", "{1}.webm")]
    if kind in _CODECS:
        others += [(*animate, "--driving", "{folder}/a.avi", "--audio", "{0}")]
    return [(*animate, "--driving", "{0}"), ("depth", "{0}", "--output", "{1}.mp4"), *others]


def _work(words: list[str], result: Path) -> Callable[[], int]:
    def call() -> int:
        code = main(words)
        if code == 0:
            read_image(result) if is_still(result) else next(iter(read_video(result)))
        return code

    return call


def _trace(words: list[str], result: Path) -> tuple[Any, str]:
    """Run a command to its end; returns that, and what is wrong with it or with what it left."""
    result.parent.mkdir()
    end = forked(_work(words, result))
    left = sorted(path.name for path in result.parent.iterdir())
    wrong = complaint(end)
    expected = [result.name] if end.how == "exit 0" else []
    if not wrong and left != expected:
        wrong = f"{end.how}, but left {left}"
    shutil.rmtree(result.parent)
    return end, wrong


def fuzz(count: int, seed: int, keep: Path, kinds: list[str] | None = None) -> int:
    """Print a table; keep the files that end badly. Returns their number."""
    folder = Path(tempfile.mkdtemp())
    good = good_files(folder)
    weights = small_weights(folder / "weights")
    model, depth_net = optimize(DaGAN.from_pretrained(weights)), SelfSupDepthNet.from_pretrained(weights)
    cli.animate.load_fast = lambda *_: model
    SelfSupDepthNet.from_pretrained = lambda *_, **__: depth_net
    good["safetensors"] = folder / "a.safetensors"
    record_motion(model, folder / "a.avi").save(good["safetensors"])
    list(animate(model, read_image(folder / "a.png"), read_video(folder / "a.mp4")))  # or each process would warm up
    gc.freeze()
    chosen = [kind for kind in good if kinds is None or kind in kinds]
    bad = 0
    print(Tally.HEADER, flush=True)
    for number, kind in enumerate(chosen):
        path, tally, rng = good[kind], Tally(kind), random.Random(f"{seed} {kind}")
        data, case = path.read_bytes(), folder / f"case.{kind.rpartition('.')[2]}"
        for turn in range(count // len(chosen) + (number < count % len(chosen))):
            case.write_bytes(data if turn == 0 else mutant(path, data, rng))  # the first one is good
            words = list(doors(kind)[turn % len(doors(kind))])
            (last,) = (word for word in words if "{1}" in word)
            result = folder / "out" / last.format("", "result")
            words = [w.format(case, result.with_suffix(""), folder=folder) for w in words]
            end, wrong = _trace([*words, "--weights", str(weights)], result)
            if turn == 0 and end.how != "exit 0":
                wrong = wrong or f"refused, though good: {end.said}"
            tally.add(end, wrong)
            if wrong:
                keep.mkdir(exist_ok=True, parents=True)
                shutil.copyfile(case, keep / f"{seed}-{turn}.{kind}")
                print(f"  {seed}-{turn}.{kind} {' '.join(words[:1] + words[-2:])}: {wrong}", flush=True)
        bad += tally.bad
        print(tally, flush=True)
    shutil.rmtree(folder)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=5000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", help="of files (default: all)")
    parser.add_argument("--keep", type=Path, default=Path("bad-mutants"), help="folder for files that end badly")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads would not survive the fork
    sys.exit(1 if fuzz(options.mutants, options.seed, options.keep, options.kinds) else 0)
