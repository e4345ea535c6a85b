"""Write still images of every kind that is met in the field, and compare how they are read with Pillow's own way.

    python examples/benchmarks/odd_stills.py [--keep FOLDER]

Prints the largest difference of each, in levels of 255. Needs scikit-image, which brings tifffile, and pillow-heif.
"""

import argparse
import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile
from PIL import ImageCms, ImageOps

from depthaware.media.still import read_image

SIZE = (48, 64)
LIMIT = 2  # levels
Write = Callable[[Path], object]


def truth() -> np.ndarray:
    """RGB image that tells its corners, its rows and its channels apart, smooth enough for lossy formats."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / np.array(SIZE).reshape(2, 1, 1)
    return np.rint(255 * np.stack((x, y, 0.5 + 0.5 * np.sin(5 * x + 3 * y)), axis=2)).astype(np.uint8)


def image(mode: str) -> PIL.Image.Image:
    """The image in a mode of Pillow's, transparent towards the right where it can be."""
    rgb = PIL.Image.fromarray(truth())
    if mode in ("LA", "RGBA", "PA"):
        rgb.putalpha(PIL.Image.fromarray(truth()[..., 0]))
        return rgb.convert(mode)
    if mode == "I;16":
        return PIL.Image.fromarray(truth()[..., 2].astype(np.uint16) * 257)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        return ImageCms.applyTransform(rgb, to_lab)
    return rgb.convert(mode)


def profile(red: tuple, green: tuple, blue: tuple, white: tuple = (0.3127, 0.329), gamma: float = 2.2) -> bytes:
    """ICC profile (version 2, matrix) of an RGB space, from the chromaticities of its primaries."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])
    primaries = np.stack([xyz(*red), xyz(*green), xyz(*blue)], axis=1)
    matrix = primaries * np.linalg.solve(primaries, xyz(*white))
    adapt = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ xyz(*white))) @ bradford
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    tags = {
        name: _xyz_tag(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), (adapt @ matrix).T, strict=True)
    }
    return _icc(b"RGB ", tags | {name: curve for name in (b"rTRC", b"gTRC", b"bTRC")})


def gray_profile(gamma: float) -> bytes:
    return _icc(b"GRAY", {b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"})


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(values * 65536).astype(int))


def _icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz_tag(np.array([0.9642, 1, 0.8249])), **tags}
    start, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", space, b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


SPACES = {
    "display_p3": profile((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "adobe_rgb": profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "prophoto": profile((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), white=(0.3457, 0.3585), gamma=1.8),
}


def exif(orientation: int) -> bytes:
    tags = PIL.Image.Exif()
    tags[0x112] = orientation
    return tags.tobytes()


def png_16(path: Path, channels: int, key: tuple[int, ...] = ()) -> None:
    """PNG of 16 bits, which Pillow writes for gray alone."""
    values = np.dstack((truth(), truth()[..., 0]))[..., {1: [2], 2: [2, 0], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    rows = values.astype(int) * 256 + (values if key else 90)
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    chunks = (chunk(b"IHDR", head), transparent, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def heic(path: Path, mode: str, **options: object) -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    image(mode).save(path, format="HEIF", **options)


def thumbnail_first(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(truth()[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(truth(), photometric="rgb")


def stills() -> dict[str, Write]:
    """File name -> function that writes it."""
    found: dict[str, Write] = {}

    def add(name: str, mode: str = "RGB", **options: object) -> None:
        found[name] = lambda path: image(mode).save(path, **options)

    def several(name: str) -> None:
        found[name] = lambda path: image("RGB").save(
            path, save_all=True, append_images=[PIL.Image.fromarray(255 - truth())]
        )

    def tiff(name: str, values: np.ndarray, **options: object) -> None:
        found[name] = lambda path: tifffile.imwrite(path, values, **options)

    rgb, gray = truth(), truth()[..., 2]
    for mode in ("RGB", "L", "1", "P", "LA", "RGBA", "I;16"):
        add(f"png_{mode.replace(';', '')}.png", mode)
    add("png_palette_key.png", "P", transparency=3)
    add("png_palette_alpha.png", "P", transparency=bytes(range(0, 256)))
    add("png_gray_key.png", "L", transparency=128)
    add("png_rgb_key.png", "RGB", transparency=tuple(map(int, rgb[10, 10])))
    for channels in (2, 3, 4):
        found[f"png_16_bit_{channels}.png"] = partial(png_16, channels=channels)
    found["png_16_bit_key.png"] = partial(png_16, channels=3, key=tuple(int(v) * 257 for v in rgb[10, 10]))
    found["png_16_bit_gray_key.png"] = partial(png_16, channels=1, key=(int(gray[40, 40]) * 257,))
    several("png_animated.png")
    add("png_named.jpg", format="PNG")
    for orientation in range(1, 9):
        add(f"exif_{orientation}.jpg", quality=95, exif=exif(orientation))
    for suffix in ("png", "webp", "tif", "avif"):
        add(f"exif_5.{suffix}", exif=exif(5), **({"lossless": True} if suffix == "webp" else {}))
    add("jpeg_progressive.jpg", quality=80, progressive=True, dpi=(300, 300))
    add("jpeg_gray.jpg", "L")
    add("jpeg_cmyk.jpg", "CMYK", quality=95)
    add("jpeg_restarts.jpg", quality=50, restart_marker_blocks=2)
    several("jpeg_stereo.mpo")
    for name, space in SPACES.items():
        add(f"icc_{name}.jpg", quality=95, icc_profile=space)
    add("icc_alpha.png", "RGBA", icc_profile=SPACES["adobe_rgb"])
    add("icc_palette.png", "P", icc_profile=SPACES["adobe_rgb"])
    add("icc_gray.png", "L", icc_profile=gray_profile(1.0))
    add("icc_gray_alpha.png", "LA", icc_profile=gray_profile(1.8))
    add("icc_wide.avif", quality=95, icc_profile=SPACES["display_p3"])
    add("icc_wide.webp", lossless=True, icc_profile=SPACES["prophoto"])
    add("icc_broken.jpg", quality=95, icc_profile=SPACES["display_p3"][:200])
    add("icc_of_gray_in_rgb.jpg", quality=95, icc_profile=gray_profile(1.8))
    add("icc_of_rgb_in_cmyk.jpg", "CMYK", quality=95, icc_profile=SPACES["adobe_rgb"])
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "jpeg"):
        add(f"tiff_{compression}.tif", compression=compression, dpi=(72, 72))
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "LAB", "I;16"):
        add(f"tiff_{mode.replace(';', '')}.tif", mode)
    add("tiff_fax.tif", "1", compression="group4")
    several("tiff_pages.tif")
    add("tiff_lzw_16.tif", "I;16", compression="tiff_lzw")
    tiff("tiff_big_endian.tif", rgb, byteorder=">")
    tiff("tiff_big_endian_16.tif", gray.astype(np.uint16) * 257, byteorder=">")
    tiff("tiff_bigtiff.tif", rgb, bigtiff=True)
    tiff("tiff_tiles.tif", rgb, tile=(16, 16), compression="zlib")
    tiff("tiff_planes.tif", np.moveaxis(rgb, 2, 0).copy(), planarconfig="separate", photometric="rgb")
    tiff("tiff_rgb_16.tif", rgb.astype(np.uint16) * 257, photometric="rgb")
    tiff("tiff_rgba_16.tif", np.dstack((rgb, rgb[..., 0])).astype(np.uint16) * 257, extrasamples=["unassalpha"])
    tiff("tiff_premultiplied.tif", np.asarray(image("RGBA").convert("RGBa")), extrasamples=["assocalpha"])
    tiff("tiff_white_is_0.tif", gray, photometric="miniswhite")
    tiff("tiff_float.tif", (gray / 255).astype(np.float32))
    tiff("tiff_float_255.tif", gray.astype(np.float32))
    found["tiff_thumbnail_first.tif"] = thumbnail_first
    for mode in ("RGB", "RGBA", "L"):
        add(f"webp_{mode}.webp", mode)
        add(f"avif_{mode}.avif", mode)
        add(f"tga_{mode}.tga", mode, compression="tga_rle")
    several("webp_animated.webp")
    several("avif_animated.avif")
    for mode in ("RGB", "RGBA", "P", "1"):
        add(f"bmp_{mode}.bmp", mode)
    add("gif_still.gif")
    add("gif_transparent.gif", "RGBA")
    several("gif_animated.gif")
    for mode in ("RGB", "RGBA", "L", "I;16"):
        add(f"jpeg2000_{mode.replace(';', '')}.jp2", mode)
    for name, mode in {"ppm": "RGB", "pgm": "L", "pbm": "1"}.items():
        add(f"pnm.{name}", mode)
    add("pnm_16.pgm", "I;16")
    found["pnm_text.ppm"] = lambda path: path.write_text(
        f"P3 {SIZE[1]} {SIZE[0]} 255\n{' '.join(map(str, rgb.ravel()))}"
    )
    add("icon.ico", "RGBA", sizes=[(32, 24)])
    for name in ("pcx", "sgi", "dds", "qoi", "icns"):
        add(f"other.{name}")
    for mode in ("RGB", "RGBA", "L"):
        found[f"heic_{mode}.heic"] = partial(heic, mode=mode)
    found["heic_exif_6.heic"] = partial(heic, mode="RGB", exif=exif(6))
    found["heic_wide.heic"] = partial(heic, mode="RGB", icc_profile=SPACES["display_p3"])
    return found


def as_pillow_reads(path: Path) -> np.ndarray:
    """Read by the functions that Pillow's documentation names for each step."""
    with PIL.Image.open(path) as opened:
        if path.name == "tiff_thumbnail_first.tif":
            opened.seek(1)
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith(("I", "F")):
        return _deep_gray(picture)
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    color = picture.convert({"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "1": "L"}.get(picture.mode, picture.mode))
    color = color.convert({"LA": "L", "RGBA": "RGB"}.get(color.mode, color.mode))
    source = io.BytesIO(picture.info.get("icc_profile") or b"")
    if color.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            color = ImageCms.profileToProfile(color, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except ImageCms.PyCMSError:
            color = color.convert("RGB")
    if alpha:
        color.putalpha(alpha)
    return np.asarray(PIL.Image.alpha_composite(PIL.Image.new("RGBA", color.size, "white"), color.convert("RGBA")))[
        ..., :3
    ]


def _deep_gray(picture: PIL.Image.Image) -> np.ndarray:
    values = np.asarray(picture, np.float64)
    gray = values / values.max() * truth()[..., 2].max()  # the same image in other units
    if "transparency" in picture.info:
        gray[values == picture.info["transparency"]] = 255
    return gray[..., None].repeat(3, axis=2)


def compare(name: str, write: Write, folder: Path) -> float:
    """Write an image, and return the largest difference between both ways of reading it."""
    write(folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(abs(read_image(folder / name) - as_pillow_reads(folder / name).astype(float)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder for the images; made, and deleted, if not given")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        differences = {name: compare(name, write, folder) for name, write in stills().items()}
    for name, difference in differences.items():
        print(f"{name:28} {difference:5.1f}")
    print(
        f"{len(differences)} stills, {sum(d > LIMIT for d in differences.values())} differ by more than {LIMIT} levels"
    )


if __name__ == "__main__":
    main()
