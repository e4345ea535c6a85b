"""A model made fast computes what it computed before."""

import copy
from importlib.resources import files

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from depthaware import DaGAN, optimize
from depthaware.inference.polyphase import PhaseConv, UpsampledConv
from depthaware.media.image import fit_square, read_image
from depthaware.media.video import read_video

MEDIA = files("depthaware") / "assets"
MODELS = {
    "DaGAN": {},
    "w/ FDN": {"attention": "none"},
    "w/ CAM": {"keypoint_input": "rgb"},
    "Ours (SA)": {"attention": "self"},
    "baseline": {"attention": "none", "keypoint_input": "rgb"},
    "spade": {"decoder": "spade"},
    "blend": {"blend": True},
    "one halving": {"num_down_blocks": 1},
    "no halving": {"num_down_blocks": 0},
    "sampling of the release": {"align_corners": False},
    "as printed": {"attention_form": "paper", "estimate_jacobian": False},
    "ResNet with a plain stem": {"depth_encoder": "resnet18"},
    "norms with activations in them": {"depth_encoder": "resnetv2_18"},
}


def trained(**options) -> DaGAN:
    """A random model whose norms have statistics, as after training."""
    torch.manual_seed(0)
    model = DaGAN(**{**TINY, **options}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.2)
    if model.generator.attention is not None and model.generator.attention.gate is not None:
        model.generator.attention.gate.data.fill_(0.5)
    return model


def convs(draw: st.DrawFn, sizes: tuple[int, ...], in_channels: int) -> nn.Conv2d:
    size = draw(st.sampled_from(sizes))
    mode = draw(st.sampled_from(["zeros", "reflect"])) if size == 3 else "zeros"
    bias, out = draw(st.booleans()), draw(st.integers(1, 3))
    return nn.Conv2d(in_channels, out, size, padding=size // 2, padding_mode=mode, bias=bias).double()


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(2, 6), st.integers(2, 6))
def test_upsampled_and_phase_convolutions_are_what_they_stand_for(data, channels, height, width):
    first = data.draw(st.composite(convs)((3,), channels))
    second = data.draw(st.composite(convs)((3, 7), first.out_channels))
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    upsampled = first(F.interpolate(x, scale_factor=2.0))
    fast = UpsampledConv(first)
    torch.testing.assert_close(fast(x), upsampled)
    torch.testing.assert_close(fast(x.to(memory_format=torch.channels_last)), upsampled)
    torch.testing.assert_close(PhaseConv(second)(fast.staggered(x).relu()), second(upsampled.relu()))


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 7, padding=3, padding_mode="reflect")],
    ids=["5 x 5", "no padding", "7 x 7 by reflection"],
)
def test_convolutions_that_it_would_get_wrong_are_refused(conv):
    with pytest.raises(ValueError, match="conv: expected 3 x 3 or 7 x 7"):
        PhaseConv(conv)


@torch.inference_mode()
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_every_kind_of_model_computes_the_same(options):
    model = trained(**options)
    fast = optimize(model)
    source, driving = torch.rand(1, 3, 64, 64), torch.rand(3, 3, 64, 64)
    kp_driving = model.detect_keypoints(driving)
    expected = model.drive_with_details(model.encode_source(source), kp_driving)
    found = fast.drive_with_details(fast.encode_source(source), fast.detect_keypoints(driving))
    for name in ("prediction", "deformed", "deformation", "occlusion_map", "disparity_source"):
        if getattr(expected, name) is not None:
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=1e-4)


def test_no_batch_norm_is_left_behind_a_convolution():
    left = [name for name, module in optimize(trained()).named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert all("bottleneck" in name and name.endswith("norm1") for name in left), left  # these stand before theirs


@torch.inference_mode()
def test_bfloat16_stays_within_35_db_of_float32():
    model = DaGAN.from_pretrained("dagan-tiny")
    frames = [fit_square(frame.image, 256) for frame in list(read_video(str(MEDIA / "driving.mp4")))[::20]]
    images = [fit_square(read_image(str(MEDIA / "portrait.png")), 256), torch.cat(frames)]
    exact, low = (m.drive(m.encode_source(images[0]), m.detect_keypoints(images[1])) for m in
                  (model, optimize(model, dtype=torch.bfloat16)))  # fmt: skip
    psnr = -10 * np.log10((exact - low).square().mean((1, 2, 3)).numpy())
    assert low.dtype == torch.float32 and 35 < psnr.min() < 100


def test_the_model_itself_stays_as_it_was(tiny_model, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    fast = optimize(tiny_model, dtype=torch.bfloat16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert type(tiny_model) is DaGAN and not isinstance(fast, DaGAN) and fast.done[-1] == "bfloat16"
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    for save in (lambda: fast.save_pretrained(tmp_path / "weights"), lambda: fast.push_to_hub("user/model")):
        with pytest.raises(ValueError, match="is optimized"):
            save()
    assert not any(tmp_path.iterdir())


def test_networks_and_facts_of_the_model_are_at_hand(tiny_model):
    fast = optimize(tiny_model)
    assert fast.generator is fast.model.generator and fast.config == tiny_model.config
    kp, disparity = fast.detect(torch.rand(1, 3, 64, 64))
    assert kp.value.shape == (1, 5, 2) and disparity.shape == (1, 1, 64, 64)
    assert not hasattr(copy.deepcopy(fast), "absent")


def test_it_is_not_done_twice(tiny_model):
    with pytest.raises(ValueError, match="optimized already"):
        optimize(optimize(tiny_model))


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_batch_of_a_size_runs_in_the_same_graphs(monkeypatch, dtype):
    """With a compiler that counts and changes nothing."""
    graphs = []
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **_: compiler(f, backend=lambda g, _: graphs.append(g) or g.forward)
    )
    model = trained()
    fast = optimize(model, dtype=dtype, compile=True)
    source, kp_driving = model.encode_source(torch.rand(1, 3, 64, 64)), model.detect_keypoints(torch.rand(3, 3, 64, 64))
    frames = fast.drive(source, kp_driving)
    count = len(graphs)
    assert count > 0 and torch.equal(fast.drive(source, kp_driving), frames)
    assert len(graphs) == count and fast.done[-1] == "compiled"
    torch.testing.assert_close(
        frames, model.drive(source, kp_driving), atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_gpu_draws_what_the_cpu_draws(dtype, compile):
    model = trained()
    source, driving = torch.rand(1, 3, 64, 64), torch.rand(6, 3, 64, 64)
    expected = model.drive(model.encode_source(source), model.detect_keypoints(driving))
    fast = optimize(trained().cuda(), dtype=dtype, compile=compile)
    encoded = fast.encode_source(source.cuda())
    parts = [fast.drive(encoded, fast.detect_keypoints(images)) for images in driving.cuda().split(2)]
    torch.testing.assert_close(torch.cat(parts).cpu(), expected, atol=1e-3 if dtype == torch.float32 else 0.05, rtol=0)
