"""The ground truth of synthetic_heads.py is consistent, by laws that do not depend on the renderer."""

import av
import numpy as np
import pytest
import torch
import train_depth
from av.video.frame import PictureType
from evaluate_depth import Options as Evaluation
from evaluate_depth import main, mean_head, predict, read_truth, score
from head_renderer import Stage, pixel_rays, trace_pyramid
from head_shape import MOUTH, Expression
from recipes import fresh
from synthetic_heads import Options, RenderedClip, draw_camera, draw_motion, render_clip, write_clip
from synthetic_heads import main as synthesize
from torch import Tensor

from depthaware import SelfSupDepthNet
from depthaware.data import Clips
from depthaware.geometry import backproject, invert_pose, normalized_to_pixel, pose_matrix, project
from depthaware.media.image import read_image
from depthaware.warp import warp

QUICK = dict(size=64, samples=1, threads=1)


@pytest.fixture(scope="module", params=[1, 5])
def stiff(request) -> RenderedClip:
    """A clip in which nothing changes but the head's pose, and that quickly."""
    return render_clip(request.param, Options(frames=3, size=64, speech=0.0, blinks=0.0, rotation=120.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three clips on disk, one of them to test on."""
    folder = tmp_path_factory.mktemp("heads")
    synthesize(Options(output=str(folder), clips=3, frames=4, test_share=0.34, **QUICK))
    return folder


@pytest.fixture(scope="module")
def portrait():
    """Renderer of a head that faces the camera, function from points of the head to pixels, and the person."""
    rng = np.random.default_rng(7)
    K, place = draw_camera(rng, 96)
    pose = pose_matrix(torch.zeros(1, 3), place[None])[0]
    stage = Stage(rng, K, 96, pose, samples=1)

    def pixel(x: float, y: float, z: float) -> tuple[int, int]:
        u, v, w = K @ (pose[:3, :3] @ torch.tensor([x, y, z]) + pose[:3, 3])
        return round(float(v / w)), round(float(u / w))

    return lambda **expression: stage.render(pose, Expression(**expression)), pixel, stage.person


# Geometry


def moved(clip: RenderedClip, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """Depth (S, S) that the points of frame i have in frame j, where they fall (1, S, S, 2), which ones are there."""
    depth, masks = torch.from_numpy(clip.depth[i])[None, None], torch.from_numpy(clip.mask)[:, None, None].float()
    T = clip.motion.pose[j][None] @ invert_pose(clip.motion.pose[i][None])
    assert (T[0, :3, :3] - torch.eye(3)).norm() > 0.1  # the head has moved
    points = backproject(depth, clip.K[None])
    grid = project(points, clip.K[None], T)
    there = (masks[i, 0, 0] == 1) & (warp(masks[j], grid)[0, 0] == 1)
    assert there.sum() > 0.75 * masks[i].sum()
    return (T[:, 2, :3] @ points.flatten(2) + T[:, 2, 3:]).view_as(depth)[0, 0], grid, there


def test_the_points_of_one_frame_lie_on_the_surface_of_another(stiff):
    """Back-projected, moved with the head and projected, they have the depth of the other frame."""
    depth, grid, there = moved(stiff, 0, 2)
    found = warp(torch.from_numpy(stiff.depth[2])[None, None], grid)[0, 0]
    error = ((depth - found).abs() / depth)[there]
    # Interpolation between pixels costs that much; what is beyond is hidden in one frame, as a cheek by the nose.
    assert error.median() < 1e-3 and error.quantile(0.9) < 5e-3


def test_the_image_of_one_frame_is_found_in_another(stiff):
    _, grid, there = moved(stiff, 0, 2)
    earlier, later = (torch.from_numpy(stiff.images[i]).permute(2, 0, 1)[None] / 255 for i in (0, 2))
    warped, still = ((image - earlier).abs().mean(1)[0][there].mean() for image in (warp(later, grid), later))
    assert warped < 0.45 * still  # light stays where it is while the head turns, so that it cannot be 0


def test_the_pose_says_where_the_head_is(stiff):
    for pose, mask in zip(stiff.motion.pose, stiff.mask, strict=True):
        u, v, w = stiff.K @ pose[:3, 3]
        row, column = (axis.mean() for axis in mask.nonzero())
        assert abs(u / w - column) < 8 and abs(v / w - row) < 8  # the origin lies between the ears


def test_traced_depth_is_that_of_the_formula_for_a_sphere():
    K = torch.tensor([[90.0, 0, 33], [0, 95, 30], [0, 0, 1]])
    center, radius = torch.tensor([[0.02], [-0.03], [0.6]]), 0.1
    levels = [pixel_rays(K, 64, side) for side in (32, 64, 128)]
    _, found, dense = trace_pyramid(lambda p: p.norm(dim=0) - radius, -center, levels, 0.2)
    along = (levels[1] * center).sum(0)
    square = along**2 - center.square().sum() + radius**2
    clear = square.abs() > 5e-4  # all but the outline itself
    expected = torch.where(square > 0, along - square.clamp_min(0).sqrt(), torch.inf)
    torch.testing.assert_close(found[clear], expected[clear], atol=1e-3, rtol=0)
    shares = [t.isfinite().float().mean().item() for t in (dense, found)]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    image = K @ (levels[1] / levels[1][2])
    centers = normalized_to_pixel(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), 64, 64)
    torch.testing.assert_close(image[:2, [0, -1]].T, centers, atol=1e-4, rtol=0)  # rays pass through pixel centers


# The face


def test_an_open_mouth_is_a_hollow_and_leaves_the_upper_face_alone(portrait):
    render, pixel, _ = portrait
    shut, gaping = render(), render(mouth=0.02)
    middle = pixel(0, MOUTH + 0.01, -0.09)
    assert gaping.depth[middle] > shut.depth[middle] + 0.01
    nose, _ = pixel(0, 0.045, -0.11)
    assert np.array_equal(shut.image[:nose], gaping.image[:nose])
    assert not np.array_equal(shut.image[nose:], gaping.image[nose:])
    chin = [int(frame.mask[:, middle[1]].nonzero()[0].max()) for frame in (shut, gaping)]
    assert chin[1] > chin[0] + 2


def test_a_blink_changes_the_eyes_and_nothing_else(portrait):
    render, pixel, person = portrait
    (open_eyes, shut_eyes), (row, _) = (render(), render(blink=1.0)), pixel(0, 0, -0.08)
    changed = (open_eyes.image != shut_eyes.image).any(-1)
    rows, columns = changed.nonzero()
    reach = [pixel(side * (person.apart + 0.016), 0, -0.08)[1] for side in (-1, 1)]
    assert len(rows) > 10 and abs(rows - row).max() < 8
    assert columns.min() >= reach[0] - 1 and columns.max() <= reach[1] + 1
    assert np.array_equal(open_eyes.depth, shut_eyes.depth)


@pytest.mark.parametrize("seed", range(5))
def test_within_two_seconds_mouths_speak_eyes_blink_and_heads_move(seed):
    options = Options(frames=50)
    motion = draw_motion(np.random.default_rng(seed), torch.tensor([0, 0, 0.7]), options)
    assert motion.mouth.min() >= 0 and 0.005 < motion.mouth.max() <= 0.022
    assert motion.blink[0] == 0 and motion.blink.max() == 1
    turn = np.degrees(np.arcsin(motion.pose[:, 0, 2].numpy()))
    assert np.abs(turn).max() <= options.rotation + 0.1 and np.ptp(turn) > 3
    still = draw_motion(np.random.default_rng(seed), torch.tensor([0, 0, 0.7]), Options(translation=0.0, rotation=0.0))
    assert (still.pose == still.pose[0]).all()


# Clips


def test_a_clip_depends_on_seed_and_index_alone():
    one, same = (render_clip(1, Options(frames=2, clips=clips, **QUICK)) for clips in (2, 9))
    for a, b in zip(one[:3], same[:3], strict=True):
        assert np.array_equal(a, b)
    for other in (render_clip(2, Options(frames=2, **QUICK)), render_clip(1, Options(frames=2, seed=1, **QUICK))):
        assert np.abs(one.images.astype(float) - other.images).mean() > 15
        assert not torch.equal(one.K, other.K)


def test_the_recipes_read_what_was_written(folder):
    train, test = (Clips(folder, 64, split=split) for split in ("train", "test"))
    assert train.names == ["head0000", "head0001"] and test.names == ["head0002"]
    assert not train.by_identity.keys() & test.by_identity.keys()
    rendered = render_clip(2, Options(frames=4, **QUICK))
    difference = test.read("head0002", range(4)).astype(float) - rendered.images
    assert np.sqrt(np.square(difference).mean()) < 12  # H.264 halves the color's resolution
    (truth,) = read_truth(folder, "test", every=2)
    assert np.array_equal(truth.depth[:, 0], rendered.depth[::2]) and np.array_equal(
        truth.mask[:, 0], rendered.mask[::2]
    )


def test_key_frames_come_every_twelve_frames_without_b_frames(tmp_path):
    clip = render_clip(0, Options(frames=1, **QUICK))
    clip = clip._replace(images=np.stack([np.roll(clip.images[0], 2 * i, axis=1) for i in range(26)]))
    write_clip(tmp_path, "a", clip)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [i for i, frame in enumerate(frames) if frame.key_frame] == [0, 12, 24]
    assert not any(frame.pict_type == PictureType.B for frame in frames)


@pytest.mark.parametrize("wrong", [dict(size=50), dict(samples=3), dict(test_share=2.0), dict(clips=0)])
def test_wrong_options_are_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="expected"):
        synthesize(Options(output=str(tmp_path), **wrong))
    assert not list(tmp_path.iterdir())


# Evaluation


def test_the_truth_is_perfect_at_any_scale_and_a_flat_card_is_not(folder):
    truths = list(read_truth(folder, "train"))
    for scale in (1.0, 7.0):
        perfect = score([scale * truth.depth for truth in truths], truths)
        assert perfect == pytest.approx((0, 0, 1, 1, 1), abs=1e-5)
    flat = score([torch.ones_like(truth.depth) for truth in truths], truths)
    inside_out = score([1 / truth.depth for truth in truths], truths)
    prior = score([mean_head(truths).expand_as(truth.depth) for truth in truths], truths)
    assert flat.abs_rel > 0.02 and flat.spearman == 0 and flat.ordinal == 0
    assert inside_out.spearman == pytest.approx(-1, abs=1e-5) and inside_out.ordinal == 0
    assert inside_out.abs_rel > flat.abs_rel > prior.abs_rel and prior.spearman > 0.3  # heads are alike


def test_any_weights_with_depth_are_evaluated(folder, tiny_weights, tmp_path, capsys):
    run = tmp_path / "run"
    few = dict(images=4, batch=2, size=64, hold_out=0, threads=1)
    fresh()
    train_depth.main(train_depth.Options(data=str(folder), output=str(run), **few))
    for weights in (str(run), tiny_weights):
        sheet = tmp_path / "sheet.png"
        main(Evaluation(data=str(folder), weights=weights, sheet=str(sheet), threads=1))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines[-3:]) == 3 and all(len(line.split()) >= 6 for line in lines[-3:])
        assert read_image(sheet).shape == (64, 192, 3)
    (truth,) = read_truth(folder, "test")
    assert predict(SelfSupDepthNet.from_pretrained(run), truth.images).shape == truth.depth.shape


def test_a_split_without_clips_is_refused(folder):
    with pytest.raises(ValueError, match="no clip in the split 'validation'"):
        next(read_truth(folder, "validation"))
