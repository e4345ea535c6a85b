"""One clock for images and sound, from 0, whatever the times of the file; and sound of every kind."""

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import draw_image, make_clip, packets, times
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.media.timestamps import FrameClock
from depthaware.media.video import read_video, write_video

FRAME = Fraction(1, 25)


def tone(output, codec: str, seconds: float, rate: int = 48000, layout: str = "mono", start: float = 0.0):
    """Add a stream of sound; a click marks `start` + 0.2 seconds."""
    stream = output.add_stream(codec, rate=rate, layout=layout)
    samples = np.zeros(round(seconds * 48000), np.float32)
    samples[9600:10560] = np.sin(np.arange(960) * 0.2)
    stream.bit_rate = 128000
    channels = stream.codec_context.layout.nb_channels
    frame = av.AudioFrame.from_ndarray(np.tile(samples, (channels, 1)), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = 48000, round(start * 48000), Fraction(1, 48000)
    stream.codec_context.open(strict=False)
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate, frame_size=size)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def clip(path, *sounds, late: int = 0, frames: int = 12, **options):
    """Write a video whose frame number 5 + `late` begins at 0.2 seconds + `late` frames, with sounds."""
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream("mpeg2video" if path.suffix == ".mpg" else "libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        images = [av.VideoFrame.from_ndarray(draw_image(i)) for i in range(frames)]
        for i, frame in enumerate(images):
            frame.pts, frame.time_base = i + late, FRAME
        if sounds:
            encoded = [packet for frame in (*images, None) for packet in stream.encode(frame)]
            for sound in sounds:
                tone(output, **sound)
            output.mux(encoded)
        else:
            output.mux([packet for frame in (*images, None) for packet in stream.encode(frame)])
    return path


def click(path) -> float:
    """Time of the click, in seconds."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48000)
        for frame in (part for whole in container.decode(audio=0) for part in resampler.resample(whole)):
            loud = np.flatnonzero(abs(frame.to_ndarray()[0]) > 0.2)
            if len(loud):
                return float(frame.pts * frame.time_base) + loud[0] / 48000
    return float("nan")


def copy(source, target):
    video = read_video(source)
    with write_video(target, video.size, video.rate, video.time_base, audio=source if video.audio else None) as write:
        for frame in video:
            write(frame)
    return video


def rising(path) -> list[float]:
    found = [frame.time for frame in read_video(path)]
    assert found == sorted(set(found)) and found[0] >= 0
    return [float(time) for time in found]


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
@pytest.mark.parametrize("parts", [2, 3])
def test_joined_files_follow_one_another(tmp_path, name, parts):
    path = clip(tmp_path / name)
    path.write_bytes(path.read_bytes() * parts)
    assert rising(path) == pytest.approx([i / 25 for i in range(12 * parts)], abs=1e-3)


@pytest.mark.parametrize("offset", ["95443.5", "95300", "3600"])
def test_a_clock_that_starts_anywhere_or_wraps_starts_at_zero(tmp_path, offset):
    """The clock of transport streams has 33 bits, 26.5 hours."""
    path = clip(tmp_path / "a.ts", output_ts_offset=offset)
    assert rising(path) == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


def test_a_clock_that_wraps_after_long_goes_on(tmp_path):
    path = make_clip(tmp_path / "a.ts", 40, pts=[100 * i for i in range(40)], options={"output_ts_offset": "95343.5"})
    assert rising(path) == pytest.approx([4 * i for i in range(40)], abs=1e-3)


@pytest.mark.parametrize("late, sound", [(0, 0.0), (5, 0.0), (0, 0.3)])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_stays_where_it_was_beside_the_images(tmp_path, late, sound, codec):
    source = clip(tmp_path / "a.mkv", {"codec": codec, "seconds": 0.6, "start": sound}, late=late)
    copy(source, tmp_path / "b.mp4")
    first = times(tmp_path / "b.mp4")[0]
    assert float(first) == pytest.approx(late / 25, abs=0.03)
    assert click(tmp_path / "b.mp4") - float(first) == pytest.approx(sound + 0.2 - late / 25, abs=0.03)


def test_sound_of_joined_files_stays_together(tmp_path):
    path = clip(tmp_path / "a.ts", {"codec": "aac", "seconds": 0.48})
    path.write_bytes(path.read_bytes() * 2)
    copy(path, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4")[-1] == pytest.approx(23 / 25, abs=0.03)
    assert len(packets(tmp_path / "b.mp4", "audio")) * 1024 / 48000 == pytest.approx(0.96, abs=0.06)


@pytest.mark.parametrize("rate", [10**6, 90000, 2000])
def test_absurd_rates_are_not_believed(tmp_path, rate):
    path = make_clip(tmp_path / "a.mp4", pts=list(range(12)), time_base=Fraction(1, rate))
    video = read_video(path)
    assert (video.rate, video.frames, video.timed) == (25, 12, False)
    copy(path, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == [FRAME * i for i in range(12)]


def test_times_that_are_all_the_same_are_not_believed(tmp_path):
    path = make_clip(tmp_path / "a.mkv", bf="0")
    data = path.read_bytes()
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    changed = bytearray(data)
    for place in places:  # a block of Matroska: number of the track, then its time relative to the cluster
        at = data.index(b"\x81", place)
        changed[at + 1 : at + 3] = b"\0\0"
    path.write_bytes(bytes(changed))
    assert rising(path) == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


@given(st.lists(st.one_of(st.none(), st.integers(-50, 200)), min_size=1, max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_clock_of_frames_always_rises_and_keeps_what_rises(stamps, timed):
    clock = FrameClock(Fraction(1, 100), Fraction(1, 25), Fraction(1, 100), timed=timed)
    made = []
    for stamp in stamps:
        frame = av.VideoFrame(2, 2)
        frame.pts = stamp
        frame = clock(frame)
        made.append(frame.pts * frame.time_base)
    assert made == sorted(set(made)) and made[0] >= 0
    if not timed:
        assert made == [FRAME * i for i in range(len(stamps))]
    elif None not in stamps and stamps == sorted(set(stamps)) and stamps[0] >= 0:
        assert made == [Fraction(stamp, 100) for stamp in stamps]


SOUNDS = [
    ("mkv", "libmp3lame", 8000, "mono", "aac"),
    ("mkv", "libmp3lame", 44100, "stereo", "mp3"),
    ("mkv", "pcm_s16le", 192000, "stereo", "aac"),
    ("mkv", "pcm_u8", 11025, "mono", "aac"),
    ("mkv", "libopus", 48000, "5.1", "opus"),
    ("mkv", "ac3", 48000, "5.1", "ac3"),
    ("mkv", "flac", 96000, "5.1", "flac"),
    ("mkv", "pcm_s16le", 48000, "5.1", "aac"),
    ("avi", "adpcm_ms", 22050, "mono", "aac"),
    ("mp4", "aac", 8000, "mono", "aac"),
    ("ts", "mp2", 32000, "stereo", "aac"),
    ("flv", "nellymoser", 22050, "mono", "aac"),
    ("asf", "wmav2", 44100, "stereo", "aac"),
]


@pytest.mark.parametrize("suffix, codec, rate, layout, expected", SOUNDS)
def test_every_sound_arrives_at_its_time(tmp_path, suffix, codec, rate, layout, expected):
    source = clip(tmp_path / f"a.{suffix}", {"codec": codec, "seconds": 0.6, "rate": rate, "layout": layout})
    video = copy(source, tmp_path / "b.mp4")
    made = read_video(tmp_path / "b.mp4")
    assert (made.audio, video.audio_copied) == (expected, video.audio == expected)
    before, after = (float(times(path)[0]) for path in (source, tmp_path / "b.mp4"))
    assert click(tmp_path / "b.mp4") - after == pytest.approx(click(source) - before, abs=0.045)


def test_the_default_track_is_heard(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        tracks = [output.add_stream(codec, rate=48000, layout="mono") for codec in ("flac", "pcm_s16le")]
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        silence = av.AudioFrame("s16", "mono", 4608)
        silence.sample_rate, silence.pts, silence.time_base = 48000, 0, Fraction(1, 48000)
        for stream, frame in zip(
            (video, *tracks), (av.VideoFrame.from_ndarray(draw_image()), silence, silence), strict=True
        ):
            output.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_video(tmp_path / "a.mkv").audio == "pcm_s16le"


def test_sound_of_an_unknown_codec_is_left_out_with_a_warning(tmp_path):
    path = clip(tmp_path / "a.mkv", {"codec": "flac", "seconds": 0.48})
    path.write_bytes(path.read_bytes().replace(b"A_FLAC", b"A_NONE"))
    with pytest.warns(UserWarning, match=r"a.mkv: the codec of its sound is unknown, so there is none"):
        assert read_video(path).audio is None
    copy(path, tmp_path / "b.mp4")
    assert read_video(tmp_path / "b.mp4").audio is None


def test_damaged_sound_does_not_stop_the_images(tmp_path):
    for codec in ("aac", "pcm_s16le", "flac"):
        path = clip(tmp_path / "a.mkv", {"codec": codec, "seconds": 0.48})
        with av.open(str(path)) as container:
            places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
        data = bytearray(path.read_bytes())
        for start, size in places[::2]:
            data[start + 8 : start + size] = b"\xff" * (size - 8)
        path.write_bytes(bytes(data))
        copy(path, tmp_path / "b.mp4")
        assert len(rising(tmp_path / "b.mp4")) == 12
