"""config.json: what the constructor records, and files with the earlier names of options."""

import inspect
import json
import shutil

import pytest
import torch

from depthaware import DaGAN
from depthaware.pretrained import hub

# As written before the options were renamed: of the bundled weights, and of a converted checkpoint.
DAGAN_TINY = """{
  "image_size": 256, "num_keypoints": 15, "keypoint_input": "rgbd", "attention": "cross", "decoder": "plain",
  "blend": true, "depth_encoder": "test_resnet", "depth_channels": [8, 16, 24, 32, 64], "depth_range": [0.8, 1.25],
  "keypoint_width": 16, "motion_width": 16, "hourglass_features": 128, "hourglass_blocks": 4,
  "generator_width": 12, "generator_features": 96, "down_blocks": 3, "bottleneck_blocks": 3,
  "scale_factor": 0.125, "align_corners": true
}
"""
CONVERTED = """{
  "image_size": 256, "num_keypoints": 3, "keypoint_input": "rgb", "attention": "none", "decoder": "plain",
  "blend": false, "depth_encoder": "resnet18.tv_in1k", "depth_channels": [16, 32, 64, 128, 256],
  "depth_range": [0.1, 100.0], "keypoint_width": 2, "motion_width": 4, "hourglass_features": 8, "hourglass_blocks": 1,
  "generator_width": 3, "generator_features": 7, "down_blocks": 2, "bottleneck_blocks": 5,
  "scale_factor": 0.5, "align_corners": true
}
"""
CONVERTED_NOW = dict(
    num_keypoints=3,
    keypoint_input="rgb",
    attention="none",
    detector_block_expansion=2,
    motion_block_expansion=4,
    hourglass_max_features=8,
    num_hourglass_blocks=1,
    generator_block_expansion=3,
    generator_max_features=7,
    num_down_blocks=2,
    num_bottleneck_blocks=5,
    scale_factor=0.5,
)


def test_the_earlier_config_of_the_bundled_weights_loads(tmp_path):
    folder = hub.find("dagan-tiny")
    shutil.copy(folder / hub.WEIGHTS, tmp_path)
    (tmp_path / hub.CONFIG).write_text(DAGAN_TINY)
    model, bundled = DaGAN.from_pretrained(tmp_path), DaGAN.from_pretrained("dagan-tiny")
    written = json.loads((folder / hub.CONFIG).read_text())
    assert model.config == bundled.config == bundled.config | written  # and options that came later
    torch.testing.assert_close(model.state_dict(), bundled.state_dict(), rtol=0, atol=0)


def test_the_earlier_config_of_a_converted_checkpoint_loads_and_is_saved_with_todays_names(tmp_path):
    converted = DaGAN(**CONVERTED_NOW)
    converted.save_pretrained(tmp_path / "earlier")
    (tmp_path / "earlier" / hub.CONFIG).write_text(CONVERTED)
    loaded = DaGAN.from_pretrained(tmp_path / "earlier")
    assert loaded.config == converted.config
    loaded.save_pretrained(tmp_path / "now")
    assert list(json.loads((tmp_path / "now" / hub.CONFIG).read_text())) == list(inspect.signature(DaGAN).parameters)


def test_the_config_holds_every_option_and_shares_no_list(tmp_path):
    channels = [4, 4, 8, 8, 8]
    model = DaGAN(**CONVERTED_NOW, depth_channels=channels)
    assert model.config["depth_channels"] == channels and model.config["depth_channels"] is not channels
    assert model.config["blend"] is False and model.depth_range == [0.1, 100.0]
    model.config["depth_range"] = [0.8, 1.25]
    model.save_pretrained(tmp_path)
    assert DaGAN.from_pretrained(tmp_path).depth_range == model.depth_range == [0.8, 1.25]


def test_options_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        DaGAN(256)
    with pytest.raises(TypeError, match="keypoint_width"):
        DaGAN(keypoint_width=4)
