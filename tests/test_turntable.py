"""Laws of point clouds in files and of their views."""

import json
import struct

import numpy as np
import pytest
from clips import draw_image, make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.inference.depth_maps import depth_to_file, gray_painter, point_cloud
from depthaware.inference.turntable import render_views, turntable_to_file
from depthaware.media.glb import write_glb
from depthaware.media.image import read_image, to_uint8, write_ply
from depthaware.media.video import read_video

POINTS = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
COLORS = np.random.default_rng(1).integers(0, 256, (101, 3), np.uint8)


def read_glb(path) -> tuple[dict, bytes]:
    """The JSON and the buffer, after the rules of the container."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    found, position = [], 12
    while position < len(data):
        size, kind = struct.unpack("<I4s", data[position : position + 8])
        assert size % 4 == 0
        found.append((kind, data[position + 8 : position + 8 + size]))
        position += 8 + size
    assert [kind for kind, _ in found] == [b"JSON", b"BIN\0"] and position == len(data)
    return json.loads(found[0][1]), found[1][1]


def linear(srgb: np.ndarray) -> np.ndarray:
    """Light of 8-bit sRGB, by the formula of the standard, value by value."""
    return np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in srgb.ravel() / 255])


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 50), seed=st.integers(0, 99))
def test_glb_holds_the_points_and_their_light(tmp_path_factory, count, seed):
    random = np.random.default_rng(seed)
    points, colors = random.normal(size=(count, 3)).astype(np.float32), random.integers(0, 256, (count, 3), np.uint8)
    path = tmp_path_factory.getbasetemp() / "a.glb"
    write_glb(path, points, colors)
    scene, buffer = read_glb(path)
    assert scene["asset"]["version"] == "2.0"
    assert scene["buffers"] == [{"byteLength": len(buffer)}]
    primitive = scene["meshes"][scene["nodes"][scene["scenes"][0]["nodes"][0]]["mesh"]]["primitives"][0]
    assert primitive["mode"] == 0  # points
    arrays = []
    for name in ("POSITION", "COLOR_0"):
        accessor = scene["accessors"][primitive["attributes"][name]]
        assert (accessor["type"], accessor["componentType"], accessor["count"]) == ("VEC3", 5126, count)
        view = scene["bufferViews"][accessor["bufferView"]]
        arrays.append(np.frombuffer(buffer, "<f4", 3 * count, view["byteOffset"]).reshape(count, 3))
        assert view["byteLength"] == 12 * count
    np.testing.assert_array_equal(arrays[0], points)
    np.testing.assert_allclose(arrays[1].ravel(), linear(colors), atol=1e-6)
    bounds = scene["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose([bounds["min"], bounds["max"]], [points.min(0), points.max(0)])


def test_another_reader_finds_the_same_cloud_in_both_formats(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    write_glb(tmp_path / "a.glb", POINTS, COLORS)
    write_ply(tmp_path / "a.ply", POINTS, COLORS)
    (glb,) = trimesh.load(tmp_path / "a.glb").geometry.values()
    ply = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(glb.vertices, ply.vertices)
    np.testing.assert_array_equal(ply.colors[:, :3], COLORS)
    assert abs(glb.colors[:, :3].ravel() / 255 - linear(COLORS)).max() < 0.003


def relief(image: np.ndarray, depth: float = 0.0) -> np.ndarray:
    """Points of an image on a plane one unit away, its left half nearer by `depth`."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    z = 1 - depth * (x < width / 2)
    focal = 1.6 * max(height, width)
    rays = np.stack([(x - (width - 1) / 2) / focal, -(y - (height - 1) / 2) / focal, -np.ones_like(x)], axis=-1)
    return (rays * z[..., None]).reshape(-1, 3).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (200, 120)])
@pytest.mark.parametrize("depth", [0.0, 0.2])
def test_from_the_camera_the_cloud_is_the_image(size, depth):
    image = draw_image(4, size)
    (view,) = render_views(relief(image, depth), image.reshape(-1, 3), [0], side=128)
    height, width = (0.85 * 128 * side / max(size) for side in size)
    for row, column in ((0.2, 0.3), (0.5, 0.9), (0.8, 0.1)):
        y, x = (64 + (part - 0.5) * side for part, side in ((row, height), (column, width)))
        expected = image[int(row * size[0]), int(column * size[1])].astype(int)
        assert abs(view[int(y), int(x)] - expected).max() <= 12
    assert (view[:8] == 24).all() and (view[-8:] == 24).all()


@pytest.mark.parametrize("angle", [-30, 30])
def test_near_points_move_against_the_camera(angle):
    """A red point in front of a plane, seen from the right, stands farther left, and the other way round."""
    image = np.full((64, 64, 3), 200, np.uint8)
    points = np.vstack([relief(image), np.float32([[0, 0, -0.8]])])
    colors = np.vstack([image.reshape(-1, 3), [[255, 0, 0]]]).astype(np.uint8)
    (view,) = render_views(points, colors, [angle], side=128)
    _, x = np.nonzero((view[..., 0] > 150) & (view[..., 1] < 100))
    offset = -0.2 * np.sin(np.radians(angle)) / (1 - 0.2 * np.cos(np.radians(angle)))
    assert x.mean() == pytest.approx(63.5 + 1.6 * 0.85 * 128 * offset, abs=2)


def test_near_points_cover_far_ones_whatever_their_order():
    near, far = np.float32([[0, 0, -0.9]]), np.float32([[0, 0, -1.1]])
    plane = relief(np.zeros((8, 8, 3), np.uint8))
    for first, second in ((near, far), (far, near)):
        colors = [[9, 9, 9]] * 64 + [[200, 0, 0] if p is near else [0, 200, 0] for p in (first, second)]
        (view,) = render_views(np.vstack([plane, first, second]), np.uint8(colors), [0], side=32)
        assert view[16, 16, 0] > 150 and view[16, 16, 1] < 50


def test_points_behind_the_camera_or_very_far_are_not_drawn():
    plane = relief(np.full((64, 64, 3), 9, np.uint8))
    for point, drawn in (([0, 0, 0.5], False), ([-0.51, 0.51, -1.5], True), ([-17, 17, -50], False)):
        points = np.vstack([plane, np.float32([point])])
        (view,) = render_views(points, np.uint8([[9] * 3] * 4096 + [[255] * 3]), [0], side=64)
        assert (view.max() > 200) == drawn


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_the_figure_shows_image_depth_and_four_views(tiny_model, tmp_path, name):
    written = turntable_to_file(tiny_model, draw_image(size=(64, 64)), tmp_path / name)
    figure = read_image(tmp_path / name)
    assert figure.shape == (*written.size, 3) == (256 + 23, 6 * 256 + 5 * 6, 3)
    assert abs(figure[23:, :256].astype(int) - draw_image(size=(64, 64)).repeat(4, 0).repeat(4, 1)).mean() < 4
    assert np.ptp(figure[23:, 262:518].astype(int), axis=-1).max() < 20  # gray


def test_the_video_swings_to_both_sides_and_back(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("depthaware.inference.turntable._VIDEO_SIDE", 64)
    monkeypatch.setattr("depthaware.inference.turntable._FRAMES", 8)
    done = []
    large = draw_image(size=(700, 1400))
    written = turntable_to_file(tiny_model, large, tmp_path / "a.mp4", progress=lambda *numbers: done.append(numbers))
    frames = [frame.image.astype(int) for frame in read_video(tmp_path / "a.mp4")]
    assert (written.frames, len(frames), done[-1]) == (8, 8, (8, 8))
    assert abs(frames[0] - frames[4]).mean() < 2 < abs(frames[2] - frames[6]).mean()


def test_depth_beside_its_input(tiny_model, tmp_path):
    image = draw_image()
    assert depth_to_file(tiny_model, image, tmp_path / "a.png", compare=True).size == (48, 128)
    shown = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(shown[:, :64], image)
    np.testing.assert_array_equal(shown[:, 64:], to_uint8(gray_painter(tiny_model, image)(image))[0])
    clip = read_video(make_clip(tmp_path / "clip.mp4", 3))
    assert depth_to_file(tiny_model, clip, tmp_path / "a.mp4", compare=True).size == (48, 128)
    alone = depth_to_file(tiny_model, clip, tmp_path / "alone.mp4")
    both, gray = ([f.image.astype(int) for f in read_video(path)] for path in (tmp_path / "a.mp4", alone.path))
    for index, frame in enumerate(clip):
        assert abs(both[index][:, :64] - frame.image).mean() < 4
        assert abs(both[index][:, 64:] - gray[index]).mean() < 4


def test_glb_and_ply_of_an_image_are_one_cloud(tiny_model, tmp_path):
    image = draw_image()
    depth_to_file(tiny_model, image, tmp_path / "a.glb")
    _, buffer = read_glb(tmp_path / "a.glb")
    points = np.frombuffer(buffer, "<f4", 3 * 48 * 64).reshape(-1, 3)
    np.testing.assert_array_equal(points, point_cloud(tiny_model, image))
