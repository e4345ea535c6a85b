"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
import torch

from depthaware import DaGAN

# The first backward pass of a process decides whether autograd has threads, which no forked process could use: after
# torch.export it starts some, before it none.
torch.zeros(1, requires_grad=True).sum().backward()

# Workers that each use all cores get in each other's way, and a fork of a process that has used several hangs.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for each core, up to 8, for the whole suite; none for chosen files, which begin sooner without."""
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS and not all(Path(arg).is_dir() for arg in config.args)
    cores = min(os.cpu_count() or 1, 8)
    return 0 if chosen or cores == 1 else cores


TINY = dict(
    image_size=64,
    num_keypoints=5,
    depth_encoder="test_resnet.r160_in1k",
    depth_channels=[4, 4, 8, 8, 8],
    detector_block_expansion=4,
    motion_block_expansion=4,
    hourglass_max_features=16,
    num_hourglass_blocks=2,
    generator_block_expansion=4,
    generator_max_features=16,
    num_bottleneck_blocks=1,
)


@pytest.fixture(scope="session")
def tiny_model() -> DaGAN:
    """A whole DaGAN, random and as small as it gets; do not change its weights.

    A random decoder draws gray whatever it is given; with `blend` the motion shows, and its options in the result.
    """
    torch.manual_seed(0)
    return DaGAN(**TINY, blend=True).eval()


@pytest.fixture(scope="session")
def tiny_weights(tiny_model, tmp_path_factory) -> str:
    """Folder with the weights of `tiny_model`."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_model.save_pretrained(folder)
    return str(folder)
