"""The recipes run: two steps each, on clips made on the spot, and what they leave behind loads."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import train_dagan
import train_depth
from clips import make_clip
from evaluate_reconstruction import reconstruction_error
from safetensors.torch import load_file, save_file
from training_clips import Clips

from depthaware import DaGAN
from depthaware.losses import VGG19Features


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Nine persons, each with a clip of moving noise."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train" / "clips").mkdir(parents=True)
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "kind", "split", "identity"])
        writer.writeheader()
        for person in range(9):
            coarse = np.random.default_rng(person).integers(0, 256, (16, 16, 3)).astype(np.uint8)
            blob = coarse.repeat(8, 0).repeat(8, 1)
            images = [np.roll(blob, 3 * i, axis=1) for i in range(12)]
            name = f"person{person}"
            make_clip(folder / "train" / "clips" / f"{name}.mp4", frames=12, size=(128, 128), images=images)
            writer.writerow({"name": name, "kind": "clip", "split": "train", "identity": name})
    return folder


@pytest.fixture(scope="module")
def depth_run(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("depth")
    train_depth.main(train_depth.Options(data=str(data), output=str(output), images=8, batch=4, threads=1))
    return output


def test_stage_1_leaves_weights_and_finite_statistics(depth_run):
    stats = json.loads((depth_run / "stats.jsonl").read_text().splitlines()[-1])
    assert stats["images"] == 8 and all(np.isfinite(list(stats.values())))
    assert load_file(depth_run / "depth.safetensors").keys() == DaGAN(**train_dagan.TINY).depth_net.state_dict().keys()


def test_stage_2_trains_everything_but_the_depth_network(data, depth_run, tmp_path):
    options = dict(data=str(data), depth=str(depth_run), output=str(tmp_path), batch=2, threads=1)
    train_dagan.main(train_dagan.Options(**options, images=4))
    trained = DaGAN.from_pretrained(tmp_path / "weights")
    for key, value in load_file(depth_run / "depth.safetensors").items():
        torch.testing.assert_close(trained.depth_net.state_dict()[key], value, atol=1e-3, rtol=1e-3)  # float16 on disk
    again = train_dagan.Options(**options, images=2, init=str(tmp_path / "weights"), size=256)
    assert train_dagan.build(again).config == trained.config | {"image_size": 256, "scale_factor": 32 / 256}


def test_stage_2_with_the_papers_critics(data, depth_run, tmp_path):
    torch.manual_seed(0)
    weights = {f"features.{key}": value for key, value in VGG19Features().layers.state_dict().items()}
    save_file(weights, tmp_path / "vgg19.safetensors")
    options = train_dagan.Options(
        data=str(data), depth=str(depth_run), perceptual=10, vgg=str(tmp_path / "vgg19.safetensors"), adversarial=1
    )
    model = train_dagan.build(options)
    critics = train_dagan.Critics(options, 15)
    source, driving = torch.rand(2, 2, 3, 128, 128)
    terms, out = train_dagan.losses(model, critics, source, driving, options)
    assert {"perceptual", "adversarial", "feature_matching"} < terms.keys()
    before = [parameter.clone() for parameter in critics.parameters()]
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in critics.parameters())  # the generator's step leaves the discriminator alone
    critics.step(out, driving)
    assert not all(torch.equal(a, b) for a, b in zip(before, critics.parameters(), strict=True))


def test_copying_the_source_is_measured_as_copying(tiny_model, data):
    clips = Clips(data, tiny_model.image_size, every=4).names
    errors = reconstruction_error(tiny_model, clips, batch=3)
    assert len(errors) == 9
    for name, clip in clips.items():
        copied = np.abs(clip[1:].astype(float) - clip[:1]).mean() / 255
        assert errors[name][1] == pytest.approx(copied, rel=1e-4)


def test_pairs_come_from_one_clip_and_repeat_with_the_seed(data):
    clips = Clips(data, 32)
    first, second = (next(clips.pairs(4, np.random.default_rng(1))) for _ in range(2))
    assert torch.equal(first[0], second[0]) and first[0].shape == (4, 3, 32, 32)
    held_in, held_out = Clips(data, 32, hold_out=2), Clips(data, 32, hold_out=2, held_out=True)
    assert not set(held_in.identities) & set(held_out.identities)
    assert sorted(held_in.identities + held_out.identities) == clips.identities
