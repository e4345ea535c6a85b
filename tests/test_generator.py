"""Laws of the generator and of the whole model."""

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from torch import Tensor, nn

from depthaware import CrossModalAttention, DaGAN, DenseMotion, DepthAwareGenerator, FeatureEncoder, Keypoints
from depthaware.generator import SPADE
from depthaware.geometry import coordinate_grid

PAPER_DEPTH = TINY | dict(num_hourglass_blocks=5)  # sides in multiples of 128
TABLE_4 = {
    "baseline": dict(keypoint_input="rgb", attention="none"),
    "w/ FDN": dict(attention="none"),
    "w/ CAM": dict(keypoint_input="rgb"),
    "Ours (SA)": dict(attention="self"),
    "DaGAN": {},
    "depth alone": dict(keypoint_input="depth"),
    "FOMM": dict(keypoint_input="rgb", attention="none", num_keypoints=3),
    "SPADE": dict(decoder="spade"),
    "SPADE without attention": dict(decoder="spade", attention="none"),
    "blend": dict(blend=True),
    "released sampling": dict(align_corners=False),
    "as printed": dict(attention_form="paper", estimate_jacobian=False),
}


def dagan(**options) -> DaGAN:
    torch.manual_seed(0)
    model = DaGAN(**TINY | options).eval()
    if model.generator.attention is not None:
        open_gate(model.generator.attention)
    return model


def generator(**options) -> DepthAwareGenerator:
    torch.manual_seed(0)
    model = DepthAwareGenerator(block_expansion=4, max_features=16, num_bottleneck_blocks=1, **options).eval()
    if model.attention is not None:
        open_gate(model.attention)
    return model


def open_gate(attention: CrossModalAttention) -> None:
    """Make the attention visible; the biases keep its few queries and keys from dying in their ReLU."""
    for parameter in (attention.gate, attention.query.bias, attention.key.bias):
        if parameter is not None:
            parameter.data.fill_(0.5)


def images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth patches of color: noise would look the same everywhere to a detector."""
    coarse = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bilinear")


def motion(deformation: Tensor, occlusion: float | Tensor) -> DenseMotion:
    """A motion of one's own."""
    batch, height, width, _ = deformation.shape
    occlusion_map = torch.zeros(batch, 1, height, width) + occlusion
    return DenseMotion(deformation=deformation, occlusion_map=occlusion_map)


def at(kp: Keypoints, i: int) -> Keypoints:
    return Keypoints(*(None if x is None else x[i : i + 1] for x in kp))


# The generator


@pytest.mark.parametrize("decoder", ["plain", "spade"])
@pytest.mark.parametrize("attention", ["cross", "self", "none"])
@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_any_attention_goes_with_any_decoder(decoder, attention, size):
    model = generator(decoder=decoder, attention=attention)
    field = motion(coordinate_grid(16, 16).expand(2, -1, -1, -1), 0.5)
    out = model(torch.rand(2, 3, *size), torch.rand(2, 1, *size), field)
    assert out.prediction.shape == out.deformed.shape == (2, 3, *size)
    assert out.prediction.min() > 0 and out.prediction.max() < 1


def test_the_sizes_of_the_two_maps_are_free_and_their_shapes_are_not():
    model, image, disparity = generator(), torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
    deformation = coordinate_grid(16, 16).expand(2, -1, -1, -1)
    own = DenseMotion(deformation=deformation, occlusion_map=torch.full((2, 1, 8, 8), 0.5))
    torch.testing.assert_close(model(image, disparity, own), model(image, disparity, motion(deformation, 0.5)))
    for shape in ((2, 8, 8), (1, 1, 8, 8), (2, 2, 8, 8), (2, 1, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"^occlusion_map: expected \(2, 1, h, w\), got \("):
            model(image, disparity, own._replace(occlusion_map=torch.ones(shape)))
    for shape in ((2, 2, 8, 8), (2, 8, 2)):
        with pytest.raises(ValueError, match="expected a deformation"):
            model(image, disparity, own._replace(deformation=torch.zeros(shape)))


def test_the_generators_encoders_are_feature_encoders():
    model, image, disparity = generator(), torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    features = model.encode(image, disparity)
    for channels, part, x, wanted in (
        (3, model.appearance_encoder, image, features.appearance),
        (1, model.depth_encoder, disparity, features.depth),
    ):
        own = FeatureEncoder(channels, block_expansion=4, max_features=16).eval()
        own.load_state_dict(part.state_dict())
        torch.testing.assert_close(own(x), wanted)
        assert wanted.shape == (1, own.out_channels, 8, 8)
    with pytest.raises(ValueError, match=r"^input: expected height and width in multiples of 4, got 30 x 32$"):
        own(torch.rand(1, 1, 30, 32))


@pytest.mark.parametrize("downs", [1, 3])
@pytest.mark.parametrize("decoder", ["plain", "spade"])
def test_the_number_of_halvings_is_free(downs, decoder):
    model = generator(num_down_blocks=downs, decoder=decoder)
    out = model(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64), motion(coordinate_grid(8, 8)[None], 0.5))
    assert out.prediction.shape == (1, 3, 64, 64)


def test_standing_still_deforms_nothing_and_full_blending_then_copies_the_source():
    image, disparity = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    out = generator(blend=True)(image, disparity, motion(coordinate_grid(8, 8)[None], 1.0))
    torch.testing.assert_close(out.deformed, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.prediction, out.deformed)


@pytest.mark.parametrize("decoder", ["plain", "spade"])
def test_what_is_wholly_occluded_cannot_be_seen(decoder):
    model, field = generator(decoder=decoder, attention="none"), motion(coordinate_grid(8, 8)[None], 0.0)
    first, second = (model(torch.rand(1, 3, 32, 32), None, field).prediction for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("attention, matters", [("cross", True), ("self", False), ("none", False)])
def test_depth_matters_to_cross_modal_attention_alone(attention, matters):
    model, field = generator(attention=attention), motion(coordinate_grid(8, 8)[None], 0.5)
    image = torch.rand(1, 3, 32, 32)
    first, second = (model(image, torch.rand(1, 1, 32, 32), field).prediction for _ in range(2))
    assert torch.equal(first, second) != matters


def test_spade_scales_the_normalized_feature_by_one_plus_gamma_and_adds_beta():
    spade = SPADE(1)
    for parameter in spade.parameters():
        nn.init.zeros_(parameter)
    spade.gamma.bias.data.fill_(0.5)
    spade.beta.bias.data.fill_(0.25)
    x = torch.tensor([[[[7.0, 3.0], [3.0, 7.0]]]])  # normalized: 1 and -1
    expected = torch.tensor([[[[1.75, -1.25], [-1.25, 1.75]]]])
    torch.testing.assert_close(spade(x, torch.zeros(1, 7, 2, 2)), expected, atol=1e-4, rtol=0)


def test_what_the_generator_cannot_use_is_refused_by_name():
    model, image, field = generator(), torch.rand(1, 3, 32, 32), motion(coordinate_grid(8, 8)[None], 0.5)
    with pytest.raises(ValueError, match="source_image: expected height and width in multiples of 4, got 32 x 30"):
        model(torch.rand(1, 3, 32, 30), torch.rand(1, 1, 32, 30), field)
    with pytest.raises(ValueError, match=r"disparity: expected the size of the source \(1, 3, 32, 32\), got none"):
        model(image, None, field)
    with pytest.raises(ValueError, match=r"disparity: .* got \(1, 1, 16, 32\)"):
        model(image, torch.rand(1, 1, 16, 32), field)
    with pytest.raises(ValueError, match="attention: expected 'cross', 'self' or 'none', got 'all'"):
        DepthAwareGenerator(attention="all")
    with pytest.raises(ValueError, match="decoder: expected 'plain' or 'spade', got 'unet'"):
        DepthAwareGenerator(decoder="unet")


# The whole model


@pytest.mark.parametrize("row", TABLE_4)
def test_every_row_of_table_4_runs_and_streaming_is_the_batch(row):
    model, sources, driving = dagan(**TABLE_4[row]), images(1, 64, 64), images(3, 64, 64, seed=1)
    with torch.no_grad():
        out = model(sources.expand(3, -1, -1, -1), driving)
        source = model.encode_source(sources)
        frames = [model.drive(source, model.detect(frame)[0]) for frame in driving.split(1)]
        batch = model.drive(source, model.detect(driving)[0])
    assert (model.depth_net is None) == (row in ("baseline", "FOMM")) == (out.disparity_source is None)
    torch.testing.assert_close(torch.cat(frames), out.prediction, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(batch, out.prediction, atol=1e-5, rtol=1e-4)
    apart = Keypoints(2 * torch.rand(3, *out.kp_driving.value.shape[1:]) - 1)
    with torch.no_grad():
        assert model.drive_with_details(source, apart).deformed.std(0).max() > 1e-3


@pytest.mark.parametrize("decoder", ["plain", "spade"])
def test_every_source_has_its_own_driving_image(decoder):
    model, sources, driving = dagan(decoder=decoder), images(3, 64, 64), images(3, 64, 64, seed=1)
    with torch.no_grad():
        kp = model.detect(driving)[0]
        together = model.drive(model.encode_source(sources), kp)
        alone = [model.drive(model.encode_source(sources[i : i + 1]), at(kp, i)) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, dict(decoder="spade"), dict(keypoint_input="rgb", attention="none")])
@pytest.mark.parametrize("size", [(128, 128), (256, 256), (128, 384)])
def test_the_papers_depth_of_hourglass_takes_any_multiple_of_128(options, size):
    torch.manual_seed(0)
    model = DaGAN(**PAPER_DEPTH | options).eval()
    with torch.no_grad():
        out = model(*torch.rand(2, 1, 3, *size))
    assert out.prediction.shape == (1, 3, *size)
    assert out.deformation.shape == (1, size[0] // 4, size[1] // 4, 2)
    assert out.prediction.isfinite().all()


def test_512_px():
    with torch.no_grad():
        assert DaGAN(**PAPER_DEPTH).eval()(*torch.rand(2, 1, 3, 512, 512)).prediction.shape == (1, 3, 512, 512)


@pytest.mark.parametrize("options", [{}, dict(keypoint_input="rgb", attention="none"), dict(decoder="spade")])
@pytest.mark.parametrize("size", [(192, 128), (128, 130), (128, 0)])
def test_sides_that_cannot_be_halved_are_refused_by_name(options, size):
    model = DaGAN(**PAPER_DEPTH | options)
    with pytest.raises(
        ValueError, match=f"image: expected height and width in multiples of .* got {size[0]} x {size[1]}"
    ):
        model(*torch.zeros(2, 1, 3, *size))


def test_the_source_standing_still_is_not_deformed():
    model, image = dagan(), torch.rand(1, 3, 64, 64)
    out = model(image, image)
    torch.testing.assert_close(out.deformation[0], coordinate_grid(16, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.deformed, image, atol=1e-4, rtol=0)
    torch.testing.assert_close(out.disparity_driving, out.disparity_source)


def test_the_configuration_rebuilds_the_model():
    model = dagan(**TABLE_4["w/ CAM"])
    assert DaGAN(**model.config).config == model.config
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in DaGAN(**model.config).state_dict().items()} == shapes
