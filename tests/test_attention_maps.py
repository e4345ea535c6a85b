"""Laws of the attention maps and of their figure."""

from functools import partial

import numpy as np
import pytest
import torch
from clips import draw_image
from conftest import TINY
from PIL import Image
from skimage.data import astronaut

import depthaware
from depthaware import DaGAN
from depthaware.inference import attention_maps as module
from depthaware.inference.attention_figure import draw_attention
from depthaware.inference.attention_maps import AttentionMaps, face_points
from depthaware.media.image import fit_square
from depthaware.media.panels import column, heat_colors, row, text_line
from depthaware.warp import resize, warp

animate = partial(depthaware.animate, fit="crop", initial_frame=0)
attention_maps = partial(module.attention_maps, fit="crop")
SOURCE, DRIVING = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
POINTS = [(3, 50), (40, 20.5), (63, 63)]


def random_model(attention: str) -> DaGAN:
    """A model whose queries differ, which those of fresh weights hardly do."""
    torch.manual_seed(0)
    model = DaGAN(**TINY, attention=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_({"cross": 0.2, "self": 0.1}[attention] * torch.randn_like(parameter))
        for layer in (model.generator.attention.query, model.generator.attention.key):
            layer.weight.normal_()
            layer.bias.fill_(1)
    return model


@pytest.fixture(scope="module")
def model() -> DaGAN:
    return random_model("cross")


def details(model: DaGAN) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth feature, warped and occluded feature, and deformation, computed step by step as in the paper."""
    source, driving = (fit_square(image, 64) for image in (SOURCE, DRIVING))
    encoded = model.encode_source(source)
    motion = model.dense_motion(source, encoded.keypoints, model.detect_keypoints(driving))
    appearance = model.generator.appearance_encoder(source)
    feature = warp(appearance, motion.deformation) * resize(motion.occlusion_map, appearance.shape[-2:], True)
    return encoded.features.depth, feature, motion.deformation


@torch.no_grad()
def test_weights_are_those_of_equation_9(model):
    depth, feature, _ = details(model)
    attention = model.generator.attention
    query, key = (net(x).relu()[0].flatten(1) for net, x in ((attention.query, depth), (attention.key, feature)))
    expected = torch.softmax(query.T @ key, dim=1).reshape(16, 16, 16, 16)  # y, x of the query, y, x of the key
    found = attention_maps(model, SOURCE, DRIVING, POINTS)
    assert abs(np.diff(found.on_result, axis=0)).max() > 1e-3
    for weights, (x, y) in zip(found.on_result, POINTS, strict=True):
        np.testing.assert_allclose(weights, expected[int(y + 0.5) // 4, int(x + 0.5) // 4], rtol=1e-4, atol=1e-7)
    assert found.gate == attention.gate.item()
    np.testing.assert_array_equal(found.source, SOURCE)


@torch.no_grad()
def test_weights_on_the_source_act_on_it_as_the_others_on_its_warp(model):
    """Any image of the source's: attending to its warp is attending to itself at the places it was sampled from."""
    _, _, deformation = details(model)
    found = attention_maps(model, SOURCE, DRIVING, POINTS)
    image = torch.randn(1, 5, 16, 16, generator=torch.Generator().manual_seed(1))
    warped = warp(image, deformation)
    attended = torch.einsum("qhw,chw->qc", torch.from_numpy(found.on_result), warped[0])
    on_source = torch.einsum("qhw,chw->qc", torch.from_numpy(found.on_source), image[0])
    torch.testing.assert_close(on_source, attended, rtol=1e-4, atol=1e-5)
    assert abs(found.on_source - found.on_result).max() > 1e-4
    assert found.on_source.sum((1, 2)).max() < 1 + 1e-5
    np.testing.assert_allclose(found.on_result.sum((1, 2)), 1, rtol=1e-5)


def test_the_result_is_what_animate_makes(model):
    first = DRIVING[::-1]
    for reference, mode in ((first, "relative"), (None, "absolute")):
        _, made = animate(model, SOURCE, [first, DRIVING], mode=mode)
        found = attention_maps(model, SOURCE, DRIVING, POINTS, reference=reference)
        difference = abs(found.result.astype(int) - made.image)  # a batch of two sums in another order than one frame
        assert difference.max() <= 3 and difference.mean() < 0.1
        np.testing.assert_array_equal(found.driving, DRIVING)


@pytest.mark.parametrize("attention", ["cross", "self"])
def test_without_motion_source_and_result_are_one_place(attention):
    model = random_model(attention)
    for reference, driving in ((None, SOURCE), (DRIVING, DRIVING)):
        found = attention_maps(model, SOURCE, driving, POINTS, reference=reference)
        np.testing.assert_allclose(found.on_source, found.on_result, atol=1e-5)
    many = attention_maps(model, SOURCE, SOURCE, [(x + 1.5, y + 1.5) for y in range(0, 64, 4) for x in range(0, 64, 4)])
    assert len(np.unique(many.on_result.reshape(256, -1), axis=0)) > 200  # each position has its own query


@torch.no_grad()
def test_self_attention_has_its_query_where_the_point_went():
    """The position in the result whose sample lies nearest, found among all of them."""
    model = random_model("self")
    source, driving = (fit_square(image, 64) for image in (SOURCE, DRIVING))
    encoded = model.encode_source(source)
    motion = model.estimate_motion(encoded, model.detect_keypoints(driving))
    places = (motion.deformation[0].flatten(0, 1) + 1) / 2 * 63  # motion and attention have 16 x 16 positions here
    chosen = [int((places - torch.tensor(point)).norm(dim=1).argmin()) for point in POINTS]
    seen = []
    with model.generator.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs)):
        model.generator.decode(encoded.image, encoded.features, motion)
    weights = model.generator.attention.attention_map(*seen[0], queries=torch.tensor(chosen))
    found = attention_maps(model, SOURCE, DRIVING, POINTS)
    np.testing.assert_allclose(found.on_result, weights[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "fit, image, points",
    [
        ("crop", np.pad(SOURCE, ((0, 0), (12, 11), (0, 0))), [(x + 12, y) for x, y in POINTS]),
        ("crop", np.pad(SOURCE, ((4, 3), (0, 0), (0, 0))), [(x, y + 4) for x, y in POINTS]),
        ("pad", SOURCE, POINTS),
        ("stretch", SOURCE.repeat(2, axis=1), [(2 * x + 0.5, y) for x, y in POINTS]),
        ("crop", SOURCE.repeat(2, axis=0).repeat(2, axis=1), [(2 * x + 0.5, 2 * y + 0.5) for x, y in POINTS]),
    ],
)
def test_points_are_pixels_of_the_image_as_it_is(model, fit, image, points):
    expected = attention_maps(model, SOURCE, DRIVING, POINTS)
    found = attention_maps(model, image, DRIVING, points, fit=fit)
    np.testing.assert_allclose(found.points, expected.points, atol=1e-5)
    if np.array_equal(found.source, SOURCE):  # resizing blurs
        np.testing.assert_allclose(found.on_source, expected.on_source, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("points", [[(64, 0)], [(0, -1)], [(3, 3), (0, 64)], [(float("nan"), 0)], [], [3, 4]])
def test_points_that_the_model_cannot_see_are_one_line(model, points):
    with pytest.raises(ValueError, match="point") as error:
        attention_maps(model, SOURCE, DRIVING, points)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"x from 12 to 75 and y from 0 to 63, .* of 87 x 64 pixels"):
        attention_maps(model, np.pad(SOURCE, ((0, 0), (12, 11), (0, 0))), DRIVING, [(10, 5)])


def test_a_model_without_attention_has_no_maps():
    with pytest.raises(ValueError, match="attention: these weights have none"):
        attention_maps(DaGAN(**TINY, attention="none").eval(), SOURCE, DRIVING, POINTS)


def test_points_of_a_face_are_its_eyes_nose_and_mouth_and_what_lies_behind():
    points = face_points(astronaut())
    by_hand = [(202, 101), (247, 106), (222, 130), (224, 151)]
    assert abs(points[:4] - by_hand).max() < 8
    assert points[4, 1] < 40 and 300 < points[4, 0] < 340  # where there is more room
    mirrored = face_points(np.ascontiguousarray(astronaut()[:, ::-1]))
    assert abs(mirrored[4] - [511 - points[4, 0], points[4, 1]]).max() < 8
    with pytest.raises(ValueError, match="found no face in the source"):
        face_points(draw_image(size=(128, 128)))


def test_points_of_a_tilted_face_lie_in_its_square(model):
    photo = np.asarray(Image.fromarray(astronaut()).rotate(28, expand=True))
    found = module.attention_maps(model, photo, DRIVING, face_points(photo))
    assert found.points.min() > 2 and found.points.max() < 61


def test_a_face_too_far_from_that_of_the_reference_is_shown_all_the_same(model):
    first, later = np.zeros((2, 400, 1600, 3), np.uint8)
    first[:, :400], later[:, 1200:] = (astronaut()[:400, 20:420],) * 2
    found = module.attention_maps(model, SOURCE, later, POINTS, reference=first)
    assert found.driving.mean() > 50


def test_points_of_a_whole_photo_lie_on_its_cut_out_face(model):
    photo, points = astronaut(), face_points(astronaut())
    found = module.attention_maps(model, photo, DRIVING, points)
    for (x, y), place in zip(points[:4], found.points[:4], strict=True):
        around = photo[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean((0, 1))
        x, y = np.rint(place).astype(int)
        assert abs(found.source[y, x] - around).max() < 60
    assert found.points.min() > 2 and found.points.max() < 61
    for x, y in ((500, 500), (10, 100)):
        with pytest.raises(ValueError, match=f"point {x},{y}: expected one in the square around the face"):
            module.attention_maps(model, photo, DRIVING, [(x, y)])


def hot(y: int, x: int) -> AttentionMaps:
    weights = np.zeros((2, 8, 8), np.float32)
    weights[:, y, x] = 1
    image = np.full((256, 256, 3), 90, np.uint8)
    return AttentionMaps(image, image, image, np.float32([[250, 40], [9, 200]]), weights, weights[:, ::-1], 0.5)


def test_the_figure_is_colored_where_the_weight_is_and_gray_elsewhere():
    figure = draw_attention(hot(6, 1))
    panel = figure[-256:, :256].astype(int)
    colored = np.ptp(panel, axis=-1) > 30
    y, x = np.nonzero(colored)
    assert abs(y.mean() - 6.5 * 32) < 4 and abs(x.mean() - 1.5 * 32) < 4
    assert 0.4 < colored.sum() / 64**2 < 1.1
    over_result = draw_attention(hot(6, 1), over="result")[-256:, :256].astype(int)
    y, _ = np.nonzero(np.ptp(over_result, axis=-1) > 30)
    assert abs(y.mean() - 1.5 * 32) < 4


def test_the_figure_grows_by_rows_of_five():
    maps = hot(3, 3)
    many = maps._replace(points=maps.points.repeat(4, 0), on_source=maps.on_source.repeat(4, 0))
    few, more = draw_attention(maps).shape[0], draw_attention(many).shape[0]
    assert more - few == few // 2 + 3
    assert abs(draw_attention(maps._replace(on_source=0 * maps.on_source)).astype(int)).max() <= 255


def test_heat_grows_brighter_with_the_value():
    luminance = heat_colors(np.linspace(0, 1, 100)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


def test_panels_have_the_sizes_of_their_images():
    images = [np.zeros((20, width, 3), np.uint8) for width in (30, 40)]
    assert row(images).shape == (20, 76, 3)
    labeled = row(images, ["a caption that is much too long for its image", "b"], font_size=12)
    assert labeled.shape == (40, 76, 3)
    assert labeled[:20, 32:36].min() == 255  # no text between the columns
    assert column([row(images), images[0]]).shape == (46, 76, 3)
    assert text_line(50, [(0, "broken \ud800 name")]).shape == (20, 50, 3)
