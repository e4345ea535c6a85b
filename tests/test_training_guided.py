"""Stage 2 guided by landmarks, in the recipe and in its parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
import train_dagan
from conftest import TINY
from recipes import shrink, stats, train, weights, write_data

from depthaware import DaGAN
from depthaware.training.guidance import GUIDED, consistency_loss, guided_terms
from depthaware.training.stage2 import GeneratorStep, adam, freeze_depth, pyramid_error

GUIDE = dict(num_keypoints=13, candidates=2, adversarial=0.0, feature_matching=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Clips, and a folder `landmarks` of a face that moves through them."""
    folder = write_data(tmp_path_factory.mktemp("data") / "clips")
    rng = np.random.default_rng(0)
    for person in range(4):
        face = rng.uniform(-0.7, 0.7, (68, 2))
        points = (face + 0.05 * rng.standard_normal((8, 68, 2))).astype(np.float32)
        (folder / "landmarks").mkdir(exist_ok=True)
        np.savez(folder / "landmarks" / f"person{person}.npz", landmarks=points, detector="made up")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)


def guided(data: Path, output: Path, **changes):
    return train(train_dagan, data, output, dict(GUIDE, landmarks=str(data / "landmarks"), **changes))


def test_a_guided_run_has_the_terms_and_names_the_detector(data, tmp_path):
    guided(data, tmp_path / "run", images=2, initial_gate=0.2)
    lines = [line for line in stats(tmp_path / "run") if "guided_keypoints" in line]
    assert {"guided_motion", "expression_gaps", "consistency", "equivariance", "pyramid"} <= lines[0].keys()
    card = (tmp_path / "run" / "weights" / "README.md").read_text()
    assert "landmarks of made up" in card and "excludes commercial use" in card and str(data) not in card


@pytest.mark.parametrize("fast", [False, True])
def test_a_guided_run_goes_on_to_the_same_weights(data, tmp_path, fast):
    options = dict(fast=fast, checkpoint_every=2, attention_rate=3.0, gate_rate=0.1, initial_gate=0.2)
    guided(data, tmp_path / "whole", images=4, **options)
    guided(data, tmp_path / "halves", images=4, **options)
    newest = max((tmp_path / "halves" / "checkpoints").glob("*.pt"))
    newest.unlink()
    guided(data, tmp_path / "halves", images=4, **options)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    gates = [value for name, value in first.items() if name.startswith("/") and name.endswith("attention.gate")]
    assert gates and all(0.19 < gate.item() < 0.21 for gate in gates)


def test_every_second_step_of_a_fast_run_has_equivariance_and_the_others_consistency(data, tmp_path):
    guided(data, tmp_path, images=4, fast=True)
    found = [("equivariance" in line, "consistency" in line) for line in stats(tmp_path) if "pyramid" in line]
    assert found == [(False, True), (True, False)]


def test_too_few_key_points_and_a_gate_of_the_printed_form_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="--num-keypoints: expected at least 12 with --landmarks, got 11"):
        train(train_dagan, data, tmp_path, dict(num_keypoints=11, landmarks=str(data / "landmarks")))
    with pytest.raises(ValueError, match="--initial-gate: expected 0 with the attention as printed"):
        train(train_dagan, data, tmp_path, dict(attention_form="paper", initial_gate=0.2))
    with pytest.raises(ValueError, match=r"landmarks 'nowhere': expected a folder of \.npz files"):
        train(train_dagan, data, tmp_path, dict(GUIDE, landmarks="nowhere"))


@pytest.fixture(scope="module")
def model() -> DaGAN:
    torch.manual_seed(0)
    model = DaGAN(**TINY | {"num_keypoints": GUIDED + 2})
    freeze_depth(model)
    return model


def test_one_pass_of_the_detector_gives_what_three_give(model):
    images = torch.rand(3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.eval()
    try:
        with torch.no_grad():
            for transformed in (images[2], images[2][:1], None):
                apart = GeneratorStep(model)(images[0], images[1], transformed)
                joint = GeneratorStep(model, joint=True)(images[0], images[1], transformed)
                torch.testing.assert_close(joint, apart)
    finally:
        model.train()
        freeze_depth(model)


def test_the_consistency_pulls_the_result_alone(model):
    images = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model(*images)
    out = out._replace(prediction=images[0].clone().requires_grad_())
    detector = model.kp_detector.eval().requires_grad_(False)
    try:
        assert consistency_loss(detector, out._replace(prediction=images[1]), images[1]) < 1e-10
        consistency_loss(detector, out, images[1]).backward()
        assert out.prediction.grad.any()
    finally:
        model.kp_detector.train().requires_grad_(True)


def test_terms_are_weighted(model):
    images = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    landmarks = torch.rand(2, 2, 68, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.no_grad():
        out = model(*images)
    one = guided_terms(out, *landmarks, guide=1, gaps=1, motion=1)
    other = guided_terms(out, *landmarks, guide=2, gaps=3, motion=4)
    for factor, (name, value) in zip((2, 3, 4), one.items(), strict=True):
        torch.testing.assert_close(other[name], factor * value)


def test_rates_of_attention_and_gate_are_their_own(model):
    step = GeneratorStep(model)
    groups = adam(step, attention_rate=3.0, gate_rate=0.1).param_groups
    scales = {id(p): group["scale"] for group in groups for p in group["params"]}
    names = {name: scales[id(p)] for name, p in step.named_parameters() if p.requires_grad}
    assert {name for name, scale in names.items() if scale == 0.1} == {"model.generator.attention.gate"}
    own = {name for name, scale in names.items() if scale == 3.0}
    assert own and all(".attention." in name or ".depth_encoder." in name for name in own)
    assert len(adam(step).param_groups) == 1 and len(names) == len(scales)


def test_weights_of_pixels_let_errors_there_count_more():
    first, second = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    second[..., 8:16, 8:16] = 1
    high = torch.ones(1, 1, 32, 32)
    high[..., 8:16, 8:16] = 9
    assert pyramid_error(first, second, weights=high) > 3 * pyramid_error(first, second)
    torch.testing.assert_close(
        pyramid_error(first, second, weights=torch.full_like(high, 2.0)), pyramid_error(first, second)
    )
