"""Pictures, videos and sound in and out."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import draw_image, make_clip, packets, times
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from depthaware.media.audio import COPIED
from depthaware.media.image import fit_square, read_image, to_uint8, write_image, write_ply
from depthaware.media.video import Frame, read_video, write_video

PYAV_18 = pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="FFmpeg or PyAV cannot do it yet")


def over_white(image: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


def save_picture(path, mode: str, **options):
    image = Image.fromarray(draw_image())
    if mode == "RGBA":
        image.putalpha(Image.fromarray(draw_image()[..., 0]))
    elif mode == "P+alpha":
        image, options = image.quantize(16), {"transparency": 3}
    else:
        image = image.convert(mode)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "P+alpha", "1"])
def test_png_modes_read_as_pillow_reads_them(tmp_path, mode):
    path = save_picture(tmp_path / "a.png", mode)
    difference = read_image(path).astype(int) - over_white(Image.open(path))
    assert abs(difference).max() <= 1


@pytest.mark.parametrize(
    "name, mode, options",
    [
        ("a.bmp", "RGB", {}),
        ("a.tif", "RGB", {}),
        ("a.webp", "RGBA", {"lossless": True}),
        ("a.jpg", "RGB", {"quality": 95, "subsampling": 0}),
        ("a.jpg", "L", {"quality": 95}),
        ("a.jpg", "CMYK", {"quality": 95}),
    ],
)
def test_other_formats_read_as_pillow_reads_them(tmp_path, name, mode, options):
    path = save_picture(tmp_path / name, mode, **options)
    difference = read_image(path).astype(int) - over_white(Image.open(path))
    assert abs(difference).max() <= 6


def test_16_bit_gray_png_keeps_its_brightness(tmp_path):
    gray = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    write_image(tmp_path / "a.png", gray)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), gray)
    difference = read_image(tmp_path / "a.png") - gray[..., None] / 257
    assert abs(difference).max() < 1.5


def test_8_bit_png_round_trip(tmp_path):
    write_image(tmp_path / "a.png", draw_image())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), draw_image())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])  # the mirrored ones PyAV does not tell apart from these
@pytest.mark.parametrize("suffix", ["jpg", pytest.param("png", marks=PYAV_18), pytest.param("webp", marks=PYAV_18)])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(draw_image()).save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"a.{suffix}"))).astype(int)
    assert abs(read_image(tmp_path / f"a.{suffix}") - upright).mean() < 3


@pytest.mark.parametrize("name", ["a%03d.png", "a[0]*?.png", "ftp:a.png", "no suffix"])
def test_names_are_names_not_patterns_or_addresses(tmp_path, name):
    write_image(tmp_path / name, draw_image())
    np.testing.assert_array_equal(read_image(tmp_path / name), draw_image())


def test_ply_is_what_its_header_says(tmp_path):
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    write_ply(tmp_path / "a.ply", points, np.full((4, 3), 7, np.uint8))
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\n")
    vertices = np.frombuffer(body, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    np.testing.assert_array_equal(vertices["xyz"], points)
    assert (vertices["rgb"] == 7).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 32), st.sampled_from(["crop", "pad", "stretch"]))
@settings(max_examples=40, deadline=None)
def test_fit_square_of_any_shape(height, width, size, mode):
    image = np.full((height, width, 3), 51, np.uint8)
    fitted = fit_square(image, size, mode)
    assert fitted.shape == (1, 3, size, size)
    expected = torch.full_like(fitted, 0.2)
    if mode == "pad":  # black around
        assert fitted.min() >= 0
        assert fitted.max() <= 0.2 + 1e-6
    else:
        torch.testing.assert_close(fitted, expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 32), st.sampled_from(["crop", "pad", "stretch"]))
@settings(max_examples=40, deadline=None)
def test_fit_square_of_8_bits_is_that_of_floats(height, width, size, mode):
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), "u1")
    floats = torch.from_numpy(image / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(fit_square(image, size, mode), fit_square(floats, size, mode), atol=1e-6, rtol=0)


def test_fit_square_keeps_what_fits_already():
    image = draw_image(size=(32, 32))
    np.testing.assert_array_equal(to_uint8(fit_square(image, 32))[0], image)
    torch.testing.assert_close(fit_square(fit_square(image, 32), 32), fit_square(image, 32))


def test_fit_square_crops_the_center_pads_and_averages():
    image = draw_image(size=(20, 40))
    np.testing.assert_array_equal(to_uint8(fit_square(image, 20, "crop"))[0], image[:, 10:30])
    np.testing.assert_array_equal(to_uint8(fit_square(image, 40, "pad"))[0, 10:30], image)
    board = np.indices((64, 64)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * 255
    assert abs(fit_square(board.astype(np.uint8), 8) - 0.5).max() < 0.05  # without anti-aliasing: black or white


@pytest.mark.parametrize("bad", [np.zeros((8, 8, 2), np.uint8), np.zeros(8, np.uint8), torch.zeros(2, 3, 8, 8)])
def test_fit_square_names_the_shape_that_it_refuses(bad):
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\).*got"):
        fit_square(bad, 8)


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.webm", "libvpx-vp9"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.gif", "gif"),
        ("a.ts", "libx264"),
    ],
)
def test_every_kind_of_file(tmp_path, name, codec):
    video = read_video(make_clip(tmp_path / name, codec=codec))
    frames = list(video)
    assert (video.size, video.rate, video.frames, video.audio) == ((48, 64), 25, 12, None)
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(12)]
    for i, frame in enumerate(frames):
        assert abs(frame.image.astype(int) - draw_image(i)).mean() < (25 if codec == "gif" else 12)
    assert len(list(video)) == 12  # again from its start


@pytest.mark.parametrize("pattern", ["", "f*.png", "f%d.png", "f%02d.png"])
def test_folder_and_patterns_in_natural_order(tmp_path, pattern):
    for i in (10, 2, 1, 9):
        write_image(tmp_path / f"f{i}.png", np.full((8, 10, 3), i, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    video = read_video(tmp_path / pattern, rate=30)
    assert [int(frame.image[0, 0, 0]) for frame in video] == [1, 2, 9, 10]
    assert (video.size, video.rate, video.frames) == ((8, 10), 30, 4)
    assert [frame.time for frame in video] == [Fraction(i, 30) for i in range(4)]


@PYAV_18
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_flag_is_applied(tmp_path, rotation):
    """A display matrix of +90 shows the image turned counterclockwise (ISO/IEC 14496-12, 6.2.2)."""
    video = read_video(make_clip(tmp_path / "a.mp4", frames=2, rotation=rotation))
    upright = np.rot90(draw_image(), rotation // 90)
    assert video.size == upright.shape[:2]
    assert abs(next(iter(video)).image.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("flip", ["hflip", "vflip"])
def test_mirrored_video_is_mirrored_back(tmp_path, flip):
    path = make_clip(tmp_path / "a.mp4", frames=2, mirror=flip)
    upright = draw_image()[:, ::-1] if flip == "hflip" else draw_image()[::-1]
    assert abs(next(iter(read_video(path))).image.astype(int) - upright).mean() < 6


def test_hidden_files_are_no_images_of_a_sequence(tmp_path):
    for name in ("1.png", "._1.png", ".DS_Store"):
        write_image(tmp_path / name, draw_image())
    for path in (tmp_path, tmp_path / "*.png", tmp_path / "*"):
        assert read_video(path).frames == 1


def test_arrays_may_be_views():
    frozen = draw_image()[..., ::-1]
    frozen.setflags(write=False)
    assert torch.equal(fit_square(frozen, 32), fit_square(frozen.copy(), 32))


def copy(source, target, audio: bool = True) -> None:
    video = read_video(source)
    with write_video(target, video.size, video.rate, video.time_base, audio=source if audio else None) as write:
        for frame in video:
            write(frame)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
@settings(max_examples=10, deadline=None)
def test_variable_frame_times_survive(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("vfr")
    pts = [0, *np.cumsum(steps).tolist()]
    make_clip(folder / "a.mp4", frames=len(pts), pts=pts, time_base=Fraction(1, 90))
    copy(folder / "a.mp4", folder / "b.mp4", audio=False)
    assert times(folder / "b.mp4") == [Fraction(p, 90) for p in pts]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webm"])
def test_constant_rate_and_number_of_frames_survive(tmp_path, name):
    codec = {"a.mp4": "libx264", "a.gif": "gif", "a.webm": "libvpx"}[name]
    copy(make_clip(tmp_path / name, codec=codec), tmp_path / "b.mp4", audio=False)
    video = read_video(tmp_path / "b.mp4")
    assert (video.rate, video.frames, times(tmp_path / "b.mp4")) == (25, 12, times(tmp_path / name))


@pytest.mark.parametrize(
    "name, codec, audio",
    [
        ("a.mp4", "libx264", "aac"),
        ("a.mp4", "libx264", "libmp3lame"),
        ("a.mp4", "libx264", "ac3"),
        ("a.mov", "libx264", "alac"),
        ("a.mkv", "libx264", "flac"),
        ("a.webm", "libvpx", "libopus"),
    ],
)
def test_sound_is_copied_byte_by_byte(tmp_path, name, codec, audio):
    source = make_clip(tmp_path / name, codec=codec, audio=audio)
    assert read_video(source).audio in COPIED["mp4"]
    copy(source, tmp_path / "b.mp4")
    assert packets(tmp_path / "b.mp4", "audio") == packets(source, "audio") != []


@pytest.mark.parametrize("name, audio", [("a.mov", "pcm_s16le"), ("a.avi", "pcm_s16le"), ("a.ts", "mp2")])
def test_other_sound_becomes_aac_of_the_same_length(tmp_path, name, audio):
    source = make_clip(tmp_path / name, frames=50, audio=audio)
    copy(source, tmp_path / "b.mp4")
    assert read_video(tmp_path / "b.mp4").audio == "aac"
    assert abs(len(packets(tmp_path / "b.mp4", "audio")) * 1024 / 48000 - 2) < 0.1


def test_sound_lies_beside_the_images_in_the_file(tmp_path):
    """Otherwise it was held in memory, and players have to hold it."""
    copy(make_clip(tmp_path / "a.mp4", frames=500, audio="aac"), tmp_path / "b.mp4")
    latest = {"audio": 0.0, "video": 0.0}
    with av.open(str(tmp_path / "b.mp4")) as container:
        for packet in sorted((p for p in container.demux() if p.size), key=lambda p: p.pos):
            latest[packet.stream.type] = float(packet.dts * packet.time_base)
            assert abs(latest["audio"] - latest["video"]) < 1.5


def test_image_and_sound_stay_together_when_the_clock_starts_late(tmp_path):
    """Transport streams start at any time; both are moved by the same amount."""
    source = make_clip(tmp_path / "a.ts", audio="aac", pts=list(range(1000, 1012)), options={"output_ts_offset": "40"})
    copy(source, tmp_path / "b.mp4")
    assert packets(tmp_path / "b.mp4", "audio")
    assert 0 <= times(tmp_path / "b.mp4")[0] < 41


def test_odd_sizes_gain_a_line(tmp_path):
    image = draw_image(size=(33, 47))
    with write_video(tmp_path / "a.mp4", (33, 47), Fraction(25)) as write:
        write(Frame(image, Fraction(0)))
    video = read_video(tmp_path / "a.mp4")
    assert video.size == (34, 48)
    assert abs(next(iter(video)).image[:33, :47].astype(int) - image).mean() < 6


@pytest.mark.parametrize("color", [(200, 150, 120), (255, 255, 255), (0, 0, 0), (200, 30, 30), (30, 60, 200)])
def test_colors_survive(tmp_path, color):
    image = np.full((32, 32, 3), color, np.uint8)
    with write_video(tmp_path / "a.mp4", (32, 32), Fraction(25)) as write:
        write(Frame(image, Fraction(0)))
    assert abs(next(iter(read_video(tmp_path / "a.mp4"))).image.astype(int) - image).max() <= 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_unfinished_file_never_appears(tmp_path, error):
    (tmp_path / "a.mp4").write_bytes(b"what was there before")
    with pytest.raises(error), write_video(tmp_path / "a.mp4", (32, 32), Fraction(25)) as write:
        write(Frame(draw_image(size=(32, 32)), Fraction(0)))
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"what was there before"
