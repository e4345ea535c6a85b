"""Videos of every kind: containers, codecs, colors, shapes, orientations, damage."""

import warnings
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import draw_image, make_clip, times
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from depthaware.media.video import Frame, read_video, write_video

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # BT.709, BT.601, BT.2020: red, blue
BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def shown(path) -> np.ndarray:
    return np.stack([frame.image for frame in read_video(path)]).astype(int)


def encode(path, planes: list[np.ndarray], format: str, codec: str = "ffv1", tags: dict | None = None, **options):
    """Write one frame from its planes, with tags of color."""
    height, width = planes[0].shape
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, format
        frame = av.VideoFrame(width, height, format)
        for plane, values in zip(frame.planes, planes, strict=True):
            padded = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
            padded[:, : values.shape[1]] = values
            plane.update(padded.tobytes())
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def to_yuv(rgb: np.ndarray, matrix: int, bits: int = 8, full: bool = False) -> list[np.ndarray]:
    """Planes of (H, W, 3) values in [0, 1], by the formulas of ITU-R BT.601, BT.709 and BT.2020."""
    red, blue = MATRICES[matrix]
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)]
    unit, top = 2 ** (bits - 8), 2**bits - 1
    scale, offset = ((top, top), 0) if full else ((219 * unit, 224 * unit), 16 * unit)
    planes = [offset + scale[0] * luma, *(128 * unit + scale[1] * plane for plane in chroma)]
    return [np.rint(plane).clip(0, top).astype(np.uint16 if bits > 8 else np.uint8) for plane in planes]


# Formats that FFmpeg writes. Others hold no video, or cannot be told from their content.
MUXERS = "3g2 3gp amv apng asf avi dv f4v filmstrip flv gif gxf h261 h263 h264 ipod ismv ivf m4v matroska mjpeg mov mp4"
MUXERS += " mpeg mpeg1video mpeg2video mpegts mxf nut ogv psp rm roq svcd vcd vob dvd webm wtv yuv4mpegpipe"
SIZES = {
    "dv": (576, 720),
    "h261": (144, 176),
    "h263": (144, 176),
    "mxf": (576, 720),
    "gxf": (480, 640),
    "rm": (144, 176),
}


@pytest.mark.parametrize("name", MUXERS.split())
def test_every_container_that_can_be_written_can_be_read(tmp_path, name):
    path, size = tmp_path / "a.video", SIZES.get(name, (64, 96))
    try:
        with av.open(str(path), "w", format=name) as output:
            stream = output.add_stream(output.default_video_codec, rate=25)
            stream.height, stream.width = size
            known = [format.name for format in stream.codec_context.codec.video_formats or ()] or ["yuv420p"]
            stream.pix_fmt = "yuv420p" if "yuv420p" in known else known[0]
            for i in range(8):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(draw_image(i, size))))
            output.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"FFmpeg does not write it: {error}")
    video = read_video(path)
    assert len(list(video)) >= 6
    assert abs(next(iter(video)).image[:64, :96].astype(int) - draw_image(0, size)[:64, :96]).mean() < 30
    rising = [frame.time for frame in video]
    assert rising == sorted(set(rising)) and 0 <= rising[0] < 0.2


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF", "GIF"])
def test_animated_images_are_videos(tmp_path, format):
    images = [Image.fromarray(draw_image(i)) for i in (0, 9, 18)]
    path = tmp_path / "a.image"
    images[0].save(path, format, save_all=True, append_images=images[1:], duration=[40, 100, 60], lossless=True)
    video = read_video(path)
    assert [float(frame.time) for frame in video] == pytest.approx([0, 0.04, 0.14], abs=1e-3)
    assert abs(shown(path) - [draw_image(i) for i in (0, 9, 18)]).mean() < 12


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_frames_of_animations_without_durations_are_shown_for_a_tenth_of_a_second(tmp_path, format):
    """FFmpeg takes such a GIF for one frame, unless its frames are transparent in part."""
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)) for i in range(3)]
    images[0].save(tmp_path / "a.image", format, save_all=True, append_images=images[1:], lossless=True)
    video = read_video(tmp_path / "a.image")
    assert [float(frame.time) for frame in video] == pytest.approx([0, 0.1, 0.2]) and video.rate == 10
    with Image.open(tmp_path / "a.image") as image:
        expected = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    np.testing.assert_array_equal(shown(tmp_path / "a.image"), expected)


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_damaged_animations_are_refused_in_one_line_or_read_as_far_as_they_go(tmp_path, format):
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)) for i in range(3)]
    images[0].save(tmp_path / "a.image", format, save_all=True, append_images=images[1:])
    whole = (tmp_path / "a.image").read_bytes()
    for end in range(10, len(whole), len(whole) // 12):
        (tmp_path / "a.image").write_bytes(whole[:end])
        with suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert 1 <= len(list(read_video(tmp_path / "a.image"))) <= 3
    size = bytearray(whole)
    size[24:30] = b"\xff\xff\0\xff\xff\0"  # of WebP: 65536 x 65536 pixels
    (tmp_path / "a.image").write_bytes(size)
    if format == "WEBP":
        with pytest.raises(ValueError, match=r"a.image: damaged"):
            read_video(tmp_path / "a.image")


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF", "JPEG", "TIFF"])
def test_still_images_are_no_videos(tmp_path, format):
    Image.fromarray(draw_image()).save(tmp_path / "a.image", format)
    with pytest.raises(ValueError, match=r"a.image: is a still image, expected a video"):
        read_video(tmp_path / "a.image")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_the_tagged_matrix_and_range_decide(tmp_path, matrix, full, size):
    image = draw_image(5, size)
    planes = to_yuv(image / 255, matrix, full=full)
    path = encode(tmp_path / "a.mkv", planes, "yuv444p", tags={"colorspace": matrix, "color_range": 1 + full})
    assert abs(shown(path)[0] - image).max() <= 3


@pytest.mark.parametrize("size, matrix", [((576, 720), 5), ((480, 854), 5), ((720, 1280), 1), ((640, 360), 1)])
def test_without_a_tag_the_size_decides(tmp_path, size, matrix):
    image = draw_image(5, size)
    path = encode(tmp_path / "a.mkv", to_yuv(image / 255, matrix), "yuv444p")
    assert abs(shown(path)[0] - image).max() <= 3


@pytest.mark.parametrize("bits", [10, 12])
def test_more_bits_are_the_same_colors(tmp_path, bits):
    planes = to_yuv(draw_image(5) / 255, 5, bits)
    path = encode(tmp_path / "a.mkv", planes, f"yuv444p{bits}le")
    assert abs(shown(path)[0] - draw_image(5)).max() <= 2


def pq(nits: np.ndarray) -> np.ndarray:
    """Inverse EOTF of SMPTE ST 2084."""
    powered = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """Inverse OOTF (peak 1000 nits) and OETF of ARIB STD-B67 in ITU-R BT.2100."""
    display = nits / 1000
    luminance = (display @ np.array([0.2627, 0.6780, 0.0593]))[..., None]
    scene = display * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    logarithmic = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithmic)


def hdr(path, image: np.ndarray, curve, white: float, primaries: int = 9):
    nits = (image / 255) ** 2.4 * white @ BT709_TO_BT2020.T
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": primaries, "color_trc": 16 if curve is pq else 18}
    return encode(path, to_yuv(curve(nits).clip(0, 1), 9, 10), "yuv444p10le", tags=tags)


@pytest.mark.parametrize("curve", [pq, hlg])
def test_high_dynamic_range_up_to_white_is_as_in_standard_range(tmp_path, curve):
    """Reference: ITU-R BT.2408, diffuse white lies at 203 nits."""
    image = np.array(Image.fromarray(draw_image(20)).convert("RGB").resize((96, 64)))
    image = (image * 0.6 + 60).astype(np.uint8)  # colors of things, not of lamps
    path = hdr(tmp_path / "a.mkv", image, curve, 203)
    difference = abs(shown(path)[0] - image)
    assert difference.mean() < 3 and np.percentile(difference, 99) < 16  # near white it begins to bend


@pytest.mark.parametrize("curve", [pq, hlg])
def test_brighter_is_brighter_and_gray_stays_gray_in_high_dynamic_range(tmp_path, curve):
    ramp = np.tile(np.linspace(10, 255, 96)[None, :, None], (64, 1, 3))
    made = shown(hdr(tmp_path / "a.mkv", ramp, curve, 900))[0, 32]
    assert (np.diff(made.mean(axis=1)) >= -0.5).all()
    assert np.ptp(made, axis=1).max() <= 3 and made.max() >= 250


def test_high_dynamic_range_without_primaries_is_bt2020(tmp_path):
    tagged = shown(hdr(tmp_path / "a.mkv", draw_image(9), pq, 203))
    np.testing.assert_array_equal(shown(hdr(tmp_path / "b.mkv", draw_image(9), pq, 203, primaries=2)), tagged)


def test_transparency_lies_over_white(tmp_path):
    alpha = np.indices((48, 64))[1] * 4
    planes = [np.concatenate((draw_image(), alpha[..., None]), axis=2).astype(np.uint8).reshape(48, -1)]
    with av.open(str(tmp_path / "a.mov"), "w") as output:
        stream = output.add_stream("qtrle", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "argb"
        frame = av.VideoFrame.from_ndarray(planes[0].reshape(48, 64, 4), format="rgba")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    part = alpha[..., None] / 255
    assert abs(shown(tmp_path / "a.mov")[0] - (draw_image() * part + 255 * (1 - part))).max() <= 1


@given(
    st.integers(16, 60), st.integers(16, 60), st.sampled_from([(2, 1), (1, 2), (16, 11), (10, 11), (64, 45), (8, 9)])
)
@settings(max_examples=12, deadline=None)
def test_circles_stay_round(tmp_path_factory, height, width, ratio):
    """Written as pixels that are not square, in the container and in the codec alone, which knows few shapes."""
    folder, height, width = tmp_path_factory.mktemp("ratio"), 2 * height, 2 * width
    for path, codec in ((folder / "a.mp4", "libx264"), (folder / "a.ts", "mpeg2video")):
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            standard = Fraction(4 * height, 3 * width)
            stream.codec_context.sample_aspect_ratio = Fraction(*ratio) if codec == "libx264" else standard
            output.mux([*stream.encode(av.VideoFrame.from_ndarray(draw_image(0, (height, width)))), *stream.encode()])
        made = read_video(path).size
        assert made[0] >= height and made[1] >= width
        assert abs(made[1] - made[0] * float(width * path_ratio(path) / height)) <= 2


def path_ratio(path) -> Fraction:
    with av.open(str(path)) as container:
        return container.streams.video[0].sample_aspect_ratio


def test_absurd_pixels_are_taken_for_square(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(60000, 1)
        output.mux([*stream.encode(av.VideoFrame.from_ndarray(draw_image(0, (64, 96)))), *stream.encode()])
    assert read_video(tmp_path / "a.mp4").size == (64, 96)


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
@pytest.mark.parametrize("mirror", ["", "hflip"])
def test_all_eight_orientations(tmp_path, turn, mirror):
    path = make_clip(tmp_path / "a.mp4", frames=2, rotation=turn, mirror=mirror)
    upright = np.rot90(draw_image(), turn // 90)
    upright = upright[:, ::-1] if mirror else upright
    assert read_video(path).size == upright.shape[:2]
    assert abs(shown(path)[0] - upright).mean() < 6


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path):
    small, large = make_clip(tmp_path / "a.ts", size=(48, 64)), make_clip(tmp_path / "b.ts", size=(96, 128))
    small.write_bytes(small.read_bytes() + large.read_bytes())
    images = shown(small)
    assert images.shape[1:] == (48, 64, 3) and len(images) >= 20
    assert abs(images[-1] - draw_image(11)).mean() < 12


def test_moving_things_are_not_combed_where_a_video_is_interlaced(tmp_path):
    """Two fields of 50 a second in one frame; the moment of one of them is shown."""
    x = np.arange(320)
    fields = [np.tile(128 + 100 * np.sin((x - 5 * i) / 12), (96, 1)) for i in range(16)]
    rows = np.arange(96)[:, None]
    combed = np.stack([np.where(rows % 2, fields[i + 1], fields[i]) for i in range(0, 16, 2)]).astype(np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "b": "20M", "top": "1"})
        stream.height, stream.width, stream.pix_fmt = 96, 320, "yuv420p"
        for gray in combed:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p")))
        output.mux(stream.encode())
    made = shown(tmp_path / "a.mkv")[..., 1]
    torn, left = (min(abs(images - fields[i::2])[1:-1].mean() for i in (0, 1)) for images in (combed, made))
    assert left < 0.3 * torn


def damage(path, numbers) -> None:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packets[i].pos, packets[i].size) for i in numbers]
    data = bytearray(path.read_bytes())
    for start, size in places:
        data[start : start + size] = b"\xff" * size
    path.write_bytes(bytes(data))


@example({11}, True)  # in FFmpeg's threads when the file ends
@example({10}, False)
@given(st.sets(st.integers(0, 11), min_size=1, max_size=4), st.booleans())
@settings(max_examples=12, deadline=None)
def test_damaged_frames_are_left_out_and_counted(tmp_path_factory, numbers, reordered):
    path = make_clip(
        tmp_path_factory.mktemp("damage") / "a.mp4", g="1" if not reordered else "6", bf="2" * reordered or "0"
    )
    damage(path, numbers)
    with pytest.warns(UserWarning, match=rf"a.mp4: {len(numbers)} of 12 frames are damaged and left out"):
        found = [frame.time for frame in read_video(path)]
    assert found == sorted(set(found))
    assert len(found) == 12 - len(numbers) or (reordered and min(numbers) < 10 and len(found) < 12)
    with pytest.raises(ValueError, match=r"a.mp4: is damaged after \d+ of 12 frames"):
        list(read_video(path, strict=True))


def test_nothing_but_damage_is_an_error(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    damage(path, range(12))
    with pytest.raises(ValueError, match=r"a.mp4: has no frames that can be decoded, 12 are damaged"):
        read_video(path)


@pytest.mark.parametrize("name, share", [("a.mkv", 0.6), ("a.ts", 0.6), ("a.flv", 0.6), ("a.mp4", 0.8)])
def test_what_is_there_of_a_file_cut_short_is_read(tmp_path, recwarn, name, share):
    """With its index at the front, or none."""
    codec = "flv1" if name == "a.flv" else "libx264"
    path = make_clip(
        tmp_path / name, 50, codec=codec, options={"movflags": "faststart"} if name == "a.mp4" else {}, g="5"
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert 15 < len(list(read_video(path))) < 40
    if name != "a.ts":  # which states no length
        assert "is cut short" in str(recwarn[0].message)
        with pytest.raises(ValueError, match=r"is cut short|is damaged"):
            list(read_video(path, strict=True))


def test_the_default_video_is_shown_and_no_cover(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, default in zip(streams, (0, av.stream.Disposition.default), strict=True):
            stream.height, stream.width, stream.pix_fmt, stream.disposition = 48, 64, "yuv420p", default
        for stream, number in zip(streams, (0, 20), strict=True):
            output.mux([*stream.encode(av.VideoFrame.from_ndarray(draw_image(number))), *stream.encode()])
    assert abs(shown(tmp_path / "a.mkv")[0] - draw_image(20)).mean() < 6


def test_an_error_while_writing_names_the_file_that_was_asked_for(tmp_path):
    with (
        pytest.raises((ValueError, OSError), match=r"out.mp4: cannot be written") as caught,
        write_video(tmp_path / "out.mp4", (48, 64), Fraction(25), Fraction(1, 1000)) as write,
    ):
        for time in (0, 2**40, 2**62):
            write(Frame(draw_image(), Fraction(time)))
    assert ".part" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_times_of_a_copy_are_those_of_the_original(tmp_path):
    source = make_clip(tmp_path / "a.ts", pts=[1000, 1001, 1004, 1008], frames=4)
    video = read_video(source)
    with write_video(tmp_path / "b.mp4", video.size, video.rate, video.time_base) as write:
        for frame in video:
            write(frame)
    assert (
        times(tmp_path / "b.mp4")
        == [frame.time for frame in video]
        == [0, Fraction(1, 25), Fraction(4, 25), Fraction(8, 25)]
    )
