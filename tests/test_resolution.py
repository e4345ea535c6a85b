"""Frames larger than the trained size: the motion of the small ones, and detail that these do not have."""

import pytest
import torch
import torch.nn.functional as F

from depthaware import animate, optimize
from depthaware.inference.resolution import enlarge


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_at_the_trained_size_nothing_changes(tiny_model, images):
    model = enlarge(tiny_model, 64)
    wanted, found = (m.drive(m.encode_source(images[:1]), m.detect_keypoints(images[1:])) for m in (tiny_model, model))
    assert torch.equal(found, wanted)


@torch.inference_mode()
@pytest.mark.parametrize("fast", [False, True])
def test_key_points_and_motion_are_those_of_the_trained_size(tiny_model, images, fast):
    base = optimize(tiny_model) if fast else tiny_model
    model = enlarge(base, 128)
    large = F.interpolate(images, scale_factor=2.0)  # its average over 2 x 2 pixels is the image again
    torch.testing.assert_close(F.avg_pool2d(large, 2), images)
    small = F.interpolate(large, size=(64, 64), mode="bilinear", antialias=True)
    for wanted, found in zip(base.detect_keypoints(small), model.detect_keypoints(large), strict=True):
        torch.testing.assert_close(found, wanted)
    source, small_source = model.encode_source(large[:1]), base.encode_source(small[:1])
    motion, wanted = (base.estimate_motion(s, base.detect_keypoints(small[1:])) for s in (source, small_source))
    torch.testing.assert_close(motion.deformation, wanted.deformation)
    assert source.disparity.shape == (1, 1, 128, 128)
    assert model.drive(source, model.detect_keypoints(large[1:])).shape == (2, 3, 128, 128)


@pytest.mark.filterwarnings("ignore:no face found")
def test_animation_has_the_larger_size(tiny_model, images):
    frames = list(animate(enlarge(tiny_model, 128), images[0], images[1:], fit="crop"))
    assert [frame.image.shape for frame in frames] == [(128, 128, 3)] * 2


@pytest.mark.parametrize("size", [32, 96, 0])
def test_other_sizes_are_refused(tiny_model, size):
    with pytest.raises(ValueError, match=rf"^size: expected a multiple of the trained 64 pixels, got {size}$"):
        enlarge(tiny_model, size)
