"""Images of every kind, read from files and from memory."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import odd_stills
import PIL.Image
import pytest
import tifffile
import torch
from clips import draw_image, make_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_stills import LIMIT, SPACES, image, truth

from depthaware.media.image import fit_square, load_image, read_image, to_tensor
from depthaware.media.sequence import find_images
from depthaware.media.signatures import found_in
from depthaware.media.still import is_still, open_still

STILLS = odd_stills.stills()


def saved(path: Path, mode: str = "RGB", **options) -> Path:
    image(mode).save(path, **options)
    return path


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", STILLS)
def test_every_kind_is_read_as_by_pillows_own_functions(name, tmp_path):
    if name.startswith("heic"):
        pytest.importorskip("pillow_heif")
    assert odd_stills.compare(name, STILLS[name], tmp_path) <= LIMIT


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_stored_in_any_orientation_is_upright(orientation, suffix, tmp_path, silent):
    """The numbers of EXIF 2.32, section 4.6.4: the sides that row 0 and column 0 show."""
    rows = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}[orientation]
    columns = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    stored = truth() if rows in ("top", "bottom") else truth().transpose(1, 0, 2)
    stored = stored[:: -1 if rows in ("bottom", "right") else 1, :: -1 if columns in ("bottom", "right") else 1]
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=odd_stills.exif(orientation))
    np.testing.assert_array_equal(read_image(path), truth())
    np.testing.assert_array_equal(load_image(PIL.Image.open(path)), truth())


def _linear(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("name, gamma", [("display_p3", 563 / 256), ("adobe_rgb", 563 / 256)])
def test_a_color_profile_is_converted_by_its_primaries(name, gamma, tmp_path, silent):
    """Colors inside sRGB, to which the formulas of IEC 61966-2-1 and the primaries of both spaces apply."""
    wide = np.array(
        [[0.64, 0.33], [0.21, 0.71], [0.15, 0.06]]
        if name == "adobe_rgb"
        else [[0.68, 0.32], [0.265, 0.69], [0.15, 0.06]]
    )
    matrices = []
    for chromaticities in (wide, np.array([[0.64, 0.33], [0.3, 0.6], [0.15, 0.06]])):
        xyz = np.c_[chromaticities, 1 - chromaticities.sum(1)].T
        white = np.array([0.3127, 0.329, 0.3583]) / 0.329
        matrices.append(xyz * np.linalg.solve(xyz, white))
    pixels = np.array([[[200, 180, 160], [128, 128, 128], [90, 120, 100], [230, 200, 190]]], np.uint8)
    light = (pixels / 255) ** gamma @ (np.linalg.inv(matrices[1]) @ matrices[0]).T
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=SPACES[name])
    assert abs(read_image(tmp_path / "a.png") - expected).max() <= 1.5


def test_a_gray_image_may_have_a_profile_of_colors(tmp_path, silent):
    for mode in ("L", "RGB"):
        image("L").convert(mode).save(tmp_path / f"{mode}.png", icc_profile=SPACES["prophoto"])
    np.testing.assert_array_equal(read_image(tmp_path / "L.png"), read_image(tmp_path / "RGB.png"))
    assert abs(read_image(tmp_path / "L.png")[..., 0] - np.asarray(image("L"), int)).max() > 5


def test_a_profile_of_another_color_space_is_ignored_with_a_note(tmp_path):
    path = saved(tmp_path / "a.png", icc_profile=odd_stills.gray_profile(1.0))
    with pytest.warns(UserWarning, match=r"a.png: its color profile is ignored: it is for L, the image is RGB"):
        np.testing.assert_array_equal(read_image(path), truth())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode, tmp_path, silent):
    clear = PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 0)).convert(mode)
    clear.save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))
    assert (read_image(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize(
    "name, part", [("a.tif", "has several pages"), ("a.gif", "animated"), ("a.png", "animated"), ("a.webp", "animated")]
)
def test_the_first_of_several_images_is_read_with_a_note(name, part, tmp_path):
    options = {"lossless": True} if name == "a.webp" else {}
    saved(tmp_path / name, save_all=True, append_images=[PIL.Image.new("RGB", (64, 48))], **options)
    with pytest.warns(UserWarning, match=part):
        first = read_image(tmp_path / name)
    assert abs(first - truth().astype(int)).mean() < 8
    assert is_still(tmp_path / name) == (name == "a.tif")


@pytest.mark.parametrize("change", [lambda data: data[:300], lambda data: b"none at all", lambda data: data[:-8]])
def test_a_profile_that_is_broken_is_ignored_with_a_note(change, tmp_path):
    profile = change(SPACES["prophoto"])
    path = saved(tmp_path / "a.png", icc_profile=profile)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        pixels = read_image(path)
    assert [str(note.message).startswith(f"{path}: its color profile is ignored") for note in notes] in ([True], [])
    if notes:
        np.testing.assert_array_equal(pixels, truth())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.avif", "a.tif", "a.gif", "a.bmp", "a.jp2", "a.ppm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_refused_by_name(name, share, tmp_path):
    data = saved(tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"a\.\w+: is an? .* image, but damaged|a\.\w+: is damaged or cut short"):
        read_image(tmp_path / name)
    assert is_still(tmp_path / name)


FOREIGN = {
    "an MP4 video": lambda path: make_clip(path.rename(path.with_suffix(".mp4"))).rename(path),
    "a web page": b"\xef\xbb\xbf\n<!-- saved -->\n<!DOCTYPE html>\n<title>404</title>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n",
    "a ZIP archive": b"PK\3\4" + bytes(60),
    "a PDF document": b"%PDF-1.7\n",
    "a PostScript document": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "text": "Hello, Grüße, привет\n".encode() * 9,
    "of an unknown kind": bytes(range(128, 256)) * 9,
}


@pytest.mark.parametrize("found", FOREIGN)
def test_what_is_no_image_is_called_what_it_is(found, tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    write = FOREIGN[found]
    write(path) if callable(write) else path.write_bytes(write)
    with pytest.raises(ValueError, match=f"a.png: is {found}, expected an image .PNG, JPEG"):
        read_image(path)
    assert not is_still(path)


def test_an_empty_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a.png: the file is empty"):
        read_image(tmp_path / "a.png")
    with pytest.raises(OSError):
        read_image(tmp_path)


def test_more_pixels_than_pillows_limit_are_refused_by_number(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a.png: has 3072 pixels, expected at most 2000"):
        read_image(path)


def test_a_raw_photo_is_not_read_as_its_preview(tmp_path):
    path = saved(tmp_path / "a.tif", tiffinfo={50706: b"\1\4\0\0"})
    with pytest.raises(ValueError, match=r"a.tif: is a raw photo of a camera, expected an image"):
        read_image(path)


def test_tiff_planes_that_pillow_mixes_up_are_refused(tmp_path):
    planes = np.moveaxis(truth(), 2, 0).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match=r"a.tif: is a TIFF image with 16-bit colors in separate planes"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("scale, dtype", [(257, np.uint16), (1 / 255, np.float32), (1, np.uint8)])
def test_gray_whose_0_is_white_is_turned_over(scale, dtype, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", truth()[..., 2].astype(dtype) * dtype(scale), photometric="miniswhite")
    assert abs(read_image(tmp_path / "a.tif") - (255.0 - truth()[..., 2:])).max() <= 0.51


def test_twelve_bits_are_scaled_by_their_number(tmp_path):
    """A TIFF of two pixels: width, height, bits, compression, photometric, place of the data, rows, bytes."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<I", 12) + b"\x80\x0f\xff\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [128, 255]


@pytest.mark.parametrize("values", [[-1, 1], [0, 70000], [0, float("nan")]])
def test_gray_levels_of_a_range_that_cannot_be_told_are_refused(values, tmp_path):
    PIL.Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif: has gray values from .* to .*, expected 0 to 1 or 0 to 255"):
        read_image(tmp_path / "a.tif")


def test_heic_without_its_package_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImportError, match=r'a.heic: is a HEIC image, .*pip install "depthaware\[heic\]"'):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("name", STILLS)
def test_a_kind_is_told_by_its_first_bytes(name, tmp_path):
    """Except for a few that Pillow alone knows."""
    if name.startswith("heic"):
        pytest.importorskip("pillow_heif")
    STILLS[name](tmp_path / name)
    found = found_in(tmp_path / name)
    assert found.endswith("image") or name in ("other.pcx", "other.sgi", "other.dds", "other.icns") or "tga" in name


@given(st.binary(max_size=600))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_described(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "a"
    path.write_bytes(data)
    assert found_in(path).isprintable()


def test_images_are_read_without_torch_and_av():
    code = "import sys; from depthaware.media.still import read_image; print({'torch', 'av'} & set(sys.modules))"
    assert os.popen(f'{__import__("sys").executable} -c "{code}"').read() == "set()\n"


# Images in memory.

RGB = draw_image()
SAME = {
    "uint8": RGB,
    "floats": RGB / 255,
    "float32": (RGB / 255).astype(np.float32),
    "uint16": RGB.astype(np.uint16) * 257,
    "channels first": np.moveaxis(RGB, 2, 0) / 255,
    "a batch of one": RGB[None],
    "opaque": np.dstack((RGB, np.full(RGB.shape[:2], 255, np.uint8))),
    "tensor": torch.from_numpy(RGB / 255).permute(2, 0, 1),
    "double tensor": torch.from_numpy(RGB / 255).permute(2, 0, 1)[None].double(),
    "uint8 tensor": torch.from_numpy(RGB),
    "uint8 tensor, channels first": torch.from_numpy(RGB).permute(2, 0, 1),
    "Pillow": PIL.Image.fromarray(RGB),
    "Pillow, transparent": PIL.Image.fromarray(RGB).convert("RGBA"),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_image_of_any_type_is_the_same(kind, silent):
    np.testing.assert_array_equal(load_image(SAME[kind]), RGB)
    torch.testing.assert_close(fit_square(SAME[kind], 16), fit_square(RGB, 16), atol=1e-6, rtol=0)


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_path_is_its_file(as_path, tmp_path):
    path = saved(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(as_path(path)), read_image(path))


def test_of_two_layouts_floats_have_their_channels_first_and_bytes_last():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    np.testing.assert_array_equal(load_image(pixels), pixels)
    np.testing.assert_array_equal(load_image(torch.from_numpy(pixels / 255)), np.moveaxis(pixels, 0, 2))


def test_rounding_beyond_1_is_cut_off():
    assert to_tensor(torch.full((3, 4, 4), 1.0005)).max() == 1


@pytest.mark.parametrize("gray", [RGB[..., 0], RGB[..., :1], torch.from_numpy(RGB[..., 0] / 255)])
def test_gray_is_the_same_in_each_channel(gray):
    np.testing.assert_array_equal(load_image(gray), RGB[..., :1].repeat(3, axis=2))


def test_transparent_arrays_lie_over_white():
    half = np.dstack((RGB, np.full(RGB.shape[:2], 51, np.uint8)))
    expected = RGB * 0.2 + 255 * 0.8
    assert abs(load_image(half) - expected).max() <= 0.51
    assert abs(load_image(half / 255) - expected).max() <= 0.51


@pytest.mark.parametrize(
    "values, found",
    [
        (RGB.astype(np.float32), "0 to 25[0-9]"),
        (RGB / 127.5 - 1, "-1 to 0.9"),
        (torch.full((3, 4, 4), float("nan")), "nan"),
    ],
)
def test_values_outside_0_to_1_are_refused_with_their_range(values, found):
    for use in (load_image, to_tensor, lambda image: fit_square(image, 8)):
        with pytest.raises(ValueError, match=f"expected values from 0 to 1, got {found}"):
            use(values)


@pytest.mark.parametrize(
    "bad", [RGB.astype(int), np.zeros((0, 4, 3), np.uint8), None, 3, [RGB], RGB[..., :2], b"", io.BytesIO()]
)
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(ValueError, match=r"image: expected .*, got"):
        load_image(bad)


# Folders of frames.


@pytest.mark.parametrize("pattern", ["", "*", "?.*", "[0-9].*"])
def test_lists_of_thumbnails_are_no_frames(pattern, tmp_path):
    for name in ("2.png", "1.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path / pattern)] == ["1.png", "2.png"]


def test_a_pattern_finds_images_of_any_suffix(tmp_path):
    for name in ("2.dat", "1.dat"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path / "*.dat")] == ["1.dat", "2.dat"]


def test_frames_of_one_name_and_two_suffixes_are_refused_with_the_patterns_that_choose(tmp_path):
    for name in ("1.png", "1.jpg", "2.png", "2.jpg", "3.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"has 2 frames twice, such as 1.jpg and 1.png") as refusal:
        find_images(tmp_path)
    patterns = str(refusal.value).partition("pattern: ")[2].split(" or ")
    assert [len(find_images(Path(pattern))) for pattern in patterns] == [2, 3]


def test_opening_decodes_nothing(tmp_path):
    with open_still(saved(tmp_path / "a.png")) as opened:
        assert opened.size == (64, 48) and opened.tile
