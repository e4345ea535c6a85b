"""Every reference array, and plain formulas for weights and images that no stored array knows (table: parity.py)."""

import re

import golden_rule
import numpy as np
import pytest
import torch
import torchvision
from parity import GOLDEN, INPUTS, PARTS, WHOLE, compare, tensors, write_depth

from depthaware.attention import CrossModalAttention
from depthaware.blocks import AntiAliasDownsample
from depthaware.depth import SelfSupDepthNet, normalize
from depthaware.generator import SPADEDecoder
from depthaware.inference.optimization import optimize
from depthaware.keypoints import Keypoints
from depthaware.motion import sparse_motion
from depthaware.pretrained.checkpoint import read_depth
from depthaware.pretrained.renaming import GENERATOR, rename


@pytest.mark.parametrize("part", PARTS)
def test_parity_with_the_reference(part):
    rows = list(compare(part))
    assert rows
    for row in rows:
        assert row.difference <= row.tolerance, row


@pytest.mark.parametrize("part", WHOLE)
def test_optimized_models_are_on_a_par_too(part):
    for row in compare(part, change=optimize):
        assert row.difference <= 1.5 * row.tolerance, row  # folded norms round by CPU: 8.5e-5 to 1.1e-4 were seen


@pytest.mark.parametrize("file", ["dagan.npz", "fomm.npz"])
def test_every_array_is_compared(file):
    patterns = [INPUTS, *(pattern for _, other, pattern in PARTS.values() if other == file)]
    with np.load(GOLDEN / file) as arrays:
        for name in arrays:
            assert sum(bool(re.fullmatch(pattern, name)) for pattern in patterns) == 1, name


@pytest.mark.parametrize("salt", ["one", "two"])
def test_attention_is_its_formula(salt):
    attention = CrossModalAttention(16).double()
    for name, parameter in attention.named_parameters():
        leaf = "gamma" if name == "gate" else name
        parameter.data = torch.from_numpy(golden_rule.fill(leaf, tuple(parameter.shape), salt)).double()
    depth, feature = torch.randn(
        2, 2, 16, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(len(salt))
    )

    def positions(x, conv):  # (B, N, C)
        return torch.einsum("oc,bcn->bno", conv.weight[..., 0, 0], x.flatten(2)).add(conv.bias).clamp_min(0)

    query, key, value = (
        positions(x, c) for x, c in ((depth, attention.query), (feature, attention.key), (feature, attention.value))
    )
    scores = torch.einsum("bmd,bnd->bmn", query, key).exp()
    weights = scores / scores.sum(-1, keepdim=True)
    expected = feature + attention.gate * torch.einsum("bmn,bnc->bcm", weights, value).view_as(feature)
    torch.testing.assert_close(attention(depth, feature), expected)
    found = attention.attention_map(depth, feature, queries=torch.tensor([0, 13, 34]))
    torch.testing.assert_close(found.flatten(2), weights[:, [0, 13, 34]])


@pytest.mark.parametrize("seed", [0, 1])
def test_sparse_motion_is_its_formula(seed):
    rng = np.random.default_rng(seed)
    kp = [
        (rng.uniform(-0.9, 0.9, (2, 3, 2)), np.eye(2) + 0.3 * rng.standard_normal((2, 3, 2, 2)))
        for _ in ("source", "driving")
    ]
    (source, j_source), (driving, j_driving) = kp
    found = sparse_motion(*(Keypoints(*map(torch.from_numpy, points)) for points in kp), (4, 6)).numpy()
    for b, k, y, x in np.ndindex(2, 4, 4, 6):
        z = np.array([2 * x / 5 - 1, 2 * y / 3 - 1])
        expected = z
        if k > 0:
            i = b, k - 1
            expected = j_source[i] @ np.linalg.inv(j_driving[i]) @ (z - driving[i]) + source[i]
        np.testing.assert_allclose(found[b, k, y, x], expected, atol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_the_anti_aliasing_kernel_is_the_stored_one(scale):
    np.testing.assert_allclose(AntiAliasDownsample(3, scale).weight, golden_rule.gaussian_kernel(3, scale), atol=1e-7)


@pytest.mark.parametrize("layers", [18, 50])
@torch.no_grad()
def test_the_depth_encoder_is_torchvisions(layers, tmp_path):
    folder = write_depth(GOLDEN, tmp_path / "depth", layers)
    options, state = read_depth(folder)
    ours = SelfSupDepthNet(**options).eval()
    ours.load_state_dict(state)
    weights = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    net = getattr(torchvision.models, f"resnet{layers}")().eval()
    assert not net.load_state_dict(weights, strict=False).unexpected_keys
    x = normalize(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    expected = [net.relu(net.bn1(net.conv1(x)))]
    y = net.maxpool(expected[0])
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        expected.append(y := layer(y))
    torch.testing.assert_close(ours.encoder(x), expected, rtol=1e-4, atol=1e-4)


def test_spectral_norm_is_its_formula():
    theirs = tensors(GOLDEN, "SPADEDepthAwareGenerator", "generator", salt="another")
    theirs = {key: value for key, value in theirs.items() if key.startswith("decoder.")}
    decoder = SPADEDecoder(256, 64, 2).eval()
    ours = rename(theirs, GENERATOR, "test")
    decoder.load_state_dict({key.removeprefix("generator.decoder."): value for key, value in ours.items()})
    for name in ("up_1.conv_0", "up_1.conv_s", "G_middle_2.conv_1"):
        weight, u, v = (theirs[f"decoder.{name}.weight_{part}"].double() for part in ("orig", "u", "v"))
        expected = weight / (u @ weight.flatten(1) @ v)
        block, conv = name.split(".")
        found = getattr(decoder.up[1] if block == "up_1" else decoder.middle[2], conv).weight
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
