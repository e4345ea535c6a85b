"""Compare what depthaware reads of odd videos with what the ffmpeg program decodes: frames, times, sound.

The ffmpeg program makes the videos and is the oracle; `pip install imageio-ffmpeg` carries one. Without an argument all
cases run, otherwise those whose names contain it:

    python examples/benchmarks/compare_videos.py --keep /tmp/videos
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthaware.media.video import Video, read_video

CARD = "testsrc2=s={size}:r={rate}:d={seconds}"
TAGS = "-colorspace {0} -color_primaries {0} -color_trc {0}"
WHOLE = "bwdif=mode=send_frame:deint=interlaced"
WHITE = "split[a][b];[b]lutrgb=r=255:g=255:b=255:a=255[w];[w][a]overlay=format=rgb:alpha=straight"


class Case(NamedTuple):
    """A way to make an odd video.

    Attributes:
        name: of the file; its suffix decides the container.
        options: of the encoder, after the input.
        size, rate, seconds: of the input.
        sound: options of the sound, None for silence.
        filters: of the oracle, before the conversion to RGB.
        matrix: of the oracle's conversion to RGB.
        streams: of the oracle, where it chooses others.
        finish: changes the file afterwards, called with the function that runs ffmpeg and the path.
        frames: largest difference of a value; None if the frames are not compared.
    """

    name: str
    options: str
    size: str = "96x64"
    rate: str = "25"
    seconds: float = 0.48
    sound: str | None = None
    filters: str = ""
    matrix: str = "auto"
    streams: str = ""
    finish: Callable[[Callable[..., bytes], Path], None] | None = None
    frames: int | None = 2


def remux(options: str, before: str = "") -> Callable[[Callable[..., bytes], Path], None]:
    """Copy the packets with other options."""

    def finish(ffmpeg: Callable[..., bytes], path: Path) -> None:
        part = path.with_name(f"part_{path.name}")
        ffmpeg(*before.split(), "-i", str(path), "-map", "0", "-c", "copy", *options.split(), str(part))
        part.replace(path)

    return finish


def twice(_: Callable[..., bytes], path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def cut(_: Callable[..., bytes], path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def then(options: str) -> Callable[[Callable[..., bytes], Path], None]:
    """Append the file again, remuxed with other options."""

    def finish(ffmpeg: Callable[..., bytes], path: Path) -> None:
        before = path.read_bytes()
        remux(options)(ffmpeg, path)
        path.write_bytes(before + path.read_bytes())

    return finish


def cover(ffmpeg: Callable[..., bytes], path: Path) -> None:
    """Put a cover in front of the video."""
    image, part = path.with_suffix(".jpg"), path.with_name(f"part_{path.name}")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=300x300", "-frames:v", "1", str(image))
    maps = ["-map", "1", "-map", "0", "-c", "copy", "-disposition:v:0", "attached_pic", "-disposition:v:1", "0"]
    ffmpeg("-i", str(path), "-i", str(image), *maps, str(part))
    part.replace(path)


RETIME = "-bsf:v set" + "ts"  # in two parts, because codespell would correct it
X264 = "-c:v libx264 -pix_fmt yuv420p"
MIRRORED = [(angle, flip) for angle in (0, 90, 180, 270) for flip in ("", "-display_hflip")]
CASES = [
    # Containers
    Case("flv.flv", X264, sound="-c:a aac"),
    Case("raw.h264", X264),
    Case("raw_30.h264", X264, rate="30000/1001"),
    Case("raw.hevc", "-c:v libx265 -pix_fmt yuv420p"),
    Case("program_stream.mpg", "-c:v mpeg2video -b:v 2M", sound="-c:a mp2"),
    Case("dvd.vob", "-c:v mpeg2video -b:v 2M", sound="-c:a ac3"),
    Case("theora.ogv", "-c:v libtheora -b:v 1M", sound="-c:a libvorbis"),
    Case("wmv2.wmv", "-c:v wmv2 -b:v 1M", sound="-c:a wmav2"),
    Case("b_frames_without_times.avi", "-c:v mpeg4 -bf 2 -b:v 1M", sound="-c:a libmp3lame"),
    Case("h264_b_frames.avi", X264, sound="-c:a pcm_s16le"),
    Case("mjpeg.avi", "-c:v mjpeg -q:v 2", sound="-c:a pcm_s16le"),
    Case("xdcam.mxf", "-c:v mpeg2video -b:v 4M", sound="-c:a pcm_s16le -ar 48000"),
    Case("phone.3gp", "-c:v h263 -b:v 200k", size="176x144", sound="-c:a aac"),
    Case("h264.3g2", X264, sound="-c:a aac"),
    Case("nut.nut", X264, sound="-c:a aac"),
    Case("camera.m2ts", f"{X264} -f mpegts", sound="-c:a ac3"),
    Case("vp8.webm", "-c:v libvpx -b:v 1M", sound="-c:a libvorbis"),
    Case("vp9.webm", "-c:v libvpx-vp9 -b:v 1M", sound="-c:a libopus"),
    Case("av1.mkv", "-c:v libaom-av1 -cpu-used 8 -b:v 1M", sound="-c:a libopus"),
    Case("vp9.ivf", "-c:v libvpx-vp9 -b:v 1M"),
    Case("dv.dv", "-c:v dvvideo -pix_fmt yuv420p -aspect 4:3", size="720x576", seconds=0.2, filters=WHOLE),
    Case("dv_wide.dv", "-c:v dvvideo -pix_fmt yuv420p -aspect 16:9", size="720x576", seconds=0.2, filters=WHOLE),
    Case("elementary.m2v", "-c:v mpeg2video -b:v 2M"),
    Case("motion.mjpeg", "-c:v mjpeg -q:v 2"),
    Case("yuv4mpeg.y4m", "-pix_fmt yuv420p"),
    Case("flash.swf", "-c:v flv1 -b:v 1M"),
    Case("real.rm", "-c:v rv20 -b:v 500k", size="176x144"),
    Case("recorder.wtv", "-c:v mpeg2video -b:v 2M", sound="-c:a ac3"),
    Case("animated.gif", ""),
    Case("animated.apng", ""),
    Case("animated.webp", "-c:v libwebp_anim -lossless 1"),
    Case("animated.avif", "-c:v libaom-av1 -cpu-used 8", streams="-map 0:1"),  # it begins with a still of itself
    Case("fragmented.mp4", f"{X264} -movflags frag_keyframe+empty_moov -g 4", sound="-c:a aac"),
    # Codecs and pixel formats
    Case("444.mp4", "-c:v libx264 -pix_fmt yuv444p"),
    Case("422_10.mkv", "-c:v libx264 -pix_fmt yuv422p10le"),
    Case("420_12.mkv", "-c:v libx265 -pix_fmt yuv420p12le"),
    Case("gray.mkv", "-c:v libx264 -pix_fmt gray"),
    Case("rgb.mp4", "-c:v libx264rgb -pix_fmt rgb24 -qp 0"),
    Case("ffv1_rgb48.mkv", "-c:v ffv1 -pix_fmt gbrp16le"),
    Case("gray16.mkv", "-c:v ffv1 -pix_fmt gray16le"),
    Case("prores.mov", "-c:v prores_ks -pix_fmt yuv422p10le", sound="-c:a pcm_s24le"),
    Case("prores_alpha.mov", "-c:v prores_ks -pix_fmt yuva444p10le", filters=f"format=rgba,{WHITE}", frames=3),
    Case("qtrle_alpha.mov", "-vf format=rgba,colorchannelmixer=aa=0.5 -c:v qtrle", filters=WHITE),
    Case("huffyuv.avi", "-c:v huffyuv"),
    Case("odd_size.mkv", "-c:v ffv1 -pix_fmt yuv420p", size="97x63"),
    Case("tiny.mkv", "-c:v ffv1 -pix_fmt yuv420p", size="2x2"),
    # Color
    Case("tagged_709.mp4", f"{X264} {TAGS.format('bt709')}"),
    Case("tagged_601.mp4", f"{X264} {TAGS.format('smpte170m')}", size="1280x720", seconds=0.12),
    Case("untagged_hd.mp4", X264, size="1280x720", seconds=0.12, matrix="bt709"),
    Case("untagged_tall.mp4", X264, size="406x720", seconds=0.12, matrix="bt709"),
    Case("bt2020.mp4", "-c:v libx265 -pix_fmt yuv420p10le -colorspace bt2020nc -color_primaries bt2020"),
    Case("full_range.mp4", f"-vf scale=out_range=full {X264} -color_range pc"),
    Case("full_range_mjpeg.mkv", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    # Shape
    Case("pixels_2to1.mp4", f"{X264} -aspect 3:1"),
    Case("pixels_1to2.mp4", f"{X264} -aspect 3:4"),
    Case("dvd_pal_wide.mpg", "-c:v mpeg2video -b:v 4M -aspect 16:9", size="720x576", seconds=0.2),
    Case("ntsc.ts", f"-vf setsar=10/11 {X264}"),
    Case("display_size.mkv", "-vf setsar=16/11 -c:v ffv1 -pix_fmt yuv420p"),
    *(
        Case(
            f"turned_{angle}{'_mirrored' * bool(flip)}.mp4", X264, finish=remux("", f"-display_rotation {angle} {flip}")
        )
        for angle, flip in MIRRORED
    ),
    # ffmpeg turns the stored pixels first and stretches them then, which blurs in another direction
    Case("turned_wide_pixels.mp4", f"{X264} -aspect 3:1", finish=remux("", "-display_rotation 90"), frames=None),
    Case(
        "interlaced.mpg",
        "-vf interlace,fieldorder=tff -c:v mpeg2video -flags +ildct+ilme -b:v 4M",
        rate="50",
        filters=WHOLE,
    ),
    # Times
    Case("variable.mp4", f"-vf setpts='N*N*0.01/TB' -fps_mode passthrough {X264}"),
    Case("variable.mkv", f"-vf setpts='(N+random(1)*0.4)*0.04/TB' -fps_mode passthrough {X264}", sound="-c:a aac"),
    Case("ntsc.mp4", X264, rate="30000/1001"),
    Case("fast.mp4", X264, rate="1000", seconds=0.02),
    Case("slow.mp4", X264, rate="1/20", seconds=100),
    Case("one_frame.mp4", X264, seconds=0.04),
    Case("starts_late.ts", X264, sound="-c:a aac", finish=remux("-output_ts_offset 50000")),
    Case("joined.ts", X264, sound="-c:a aac", finish=twice),
    Case("joined.mpg", "-c:v mpeg2video -b:v 2M", sound="-c:a mp2", finish=twice),
    Case("wraps_at_once.ts", X264, seconds=2, sound="-c:a aac", finish=remux("-output_ts_offset 95442.3")),
    Case("wraps_later.ts", X264, rate="1", seconds=100, sound="-c:a aac", finish=remux("-output_ts_offset 95363")),
    Case("jumps_ahead.ts", X264, sound="-c:a aac", finish=then("-output_ts_offset 500")),
    Case("negative.mkv", f"{X264} -bf 0", sound="-c:a aac", finish=remux(RETIME + "=ts=TS-300")),
    Case("image_late.mp4", X264, sound="-c:a aac", finish=remux("", "-itsoffset 0.3")),
    Case("edit_list.mp4", f"{X264} -g 5", seconds=1, sound="-c:a aac", finish=remux("", "-ss 0.5")),
    Case("same_times.mkv", f"{X264} -bf 0", finish=remux(RETIME + "=ts='floor(N/2)*80'"), frames=None),
    Case("cut.mkv", f"{X264} -g 5", seconds=2, finish=cut),
    Case("cut.ts", f"{X264} -g 5", seconds=2, finish=cut),
    Case("gif_variable.gif", "-vf setpts='N*N*0.02/TB' -fps_mode passthrough"),
    # Streams
    Case("cover.mp4", X264, finish=cover),
    Case("two_videos.mkv", f"-map 0:v -map 0:v -filter:v:1 negate {X264} -disposition:v:1 default -disposition:v:0 0"),
]


def find_ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if not found:
        import imageio_ffmpeg

        found = imageio_ffmpeg.get_ffmpeg_exe()
    return found


def runner(program: str) -> Callable[..., bytes]:
    def run(*arguments: str) -> bytes:
        done = subprocess.run([program, "-v", "error", "-nostdin", "-y", *arguments], capture_output=True)
        if done.returncode and not done.stdout:
            raise RuntimeError(done.stderr.decode(errors="replace")[-300:])
        return done.stdout

    return run


def make(ffmpeg: Callable[..., bytes], case: Case, folder: Path) -> Path:
    path = folder / case.name
    card = CARD.format(size=case.size, rate=case.rate, seconds=case.seconds)
    inputs, sound = ["-f", "lavfi", "-i", card], ["-an"]
    if case.sound:
        inputs += ["-f", "lavfi", "-i", f"sine=f=440:r=48000:d={case.seconds}"]
        sound = case.sound.split()
    ffmpeg(*inputs, *re.findall(r"(?:'[^']*'|\S)+", case.options), *sound, "-t", str(case.seconds), str(path))
    if case.finish:
        case.finish(ffmpeg, path)
    return path


def oracle(ffmpeg: Callable[..., bytes], path: Path, case: Case) -> tuple[np.ndarray, list[float]]:
    """Frames (T, H, W, 3) and times in seconds; which streams and orientation are left to ffmpeg."""
    square = "scale='if(gt(sar,1),round(iw*sar),iw)':'if(lt(sar,1),round(ih/sar),ih)'"
    chain = ",".join(filter(None, [case.filters, f"{square}:in_color_matrix={case.matrix}", "format=rgb24"]))
    common = ["-i", str(path), *case.streams.split(), "-sn", "-dn", "-vf", chain, "-fps_mode", "passthrough"]
    lines = ffmpeg(*common, "-enc_time_base", "1:1000000", "-f", "framecrc", "-").decode().splitlines()
    stream = next(line.split()[1].rstrip(":") for line in lines if line.startswith("#media_type") and "video" in line)
    times = [int(line.split(",")[2]) / 1e6 for line in lines if line.startswith(f"{stream},")]
    sizes = [line for line in lines if line.startswith(f"#dimensions {stream}")]
    width, height = map(int, sizes[0].split()[-1].split("x"))
    raw = ffmpeg(*common, "-an", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3), times


def compare(video: Video, frames: np.ndarray, times: list[float], case: Case) -> tuple[str, list[str]]:
    found = list(video)
    problems = []
    if len(found) != len(times):
        problems.append(f"{len(found)} frames, ffmpeg {len(times)}")
    if video.size != frames.shape[1:3]:
        return "", [*problems, f"size {video.size}, ffmpeg {frames.shape[1:3]}"]
    late = max((abs(float(frame.time) - time) for frame, time in zip(found, times, strict=False)), default=0)
    if late > 1.001e-3:
        problems.append(f"times differ by {1000 * late:.1f} ms")
    pairs = list(zip(found, frames, strict=False))[
        case.filters == WHOLE :
    ]  # bwdif differs between FFmpeg 8 and 9 there
    worst = max(int(abs(frame.image.astype(int) - other).max()) for frame, other in pairs)
    if case.frames is not None and worst > case.frames:
        problems.append(f"values differ by {worst}")
    return f"{len(found)} frames, {late * 1000:.2f} ms, {worst} levels", problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help="run only the cases whose names contain this")
    parser.add_argument("--keep", type=Path, help="folder for the videos, kept afterwards")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    ffmpeg, failed = runner(find_ffmpeg()), 0
    cases = [case for case in CASES if options.name in case.name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for case in cases:
            try:
                path = make(ffmpeg, case, folder)
                expected = oracle(ffmpeg, path, case)
                line, problems = compare(read_video(path), *expected, case)
            except (RuntimeError, ValueError, StopIteration) as error:
                line, problems = "", [f"{type(error).__name__}: {' '.join(str(error).split())}"]
            failed += bool(problems)
            print(f"{'DIFFERS' if problems else 'equal':8}{case.name:32}{'; '.join(problems) or line}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} videos equal")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
