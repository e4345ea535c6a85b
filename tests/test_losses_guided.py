"""Laws of the losses that landmarks guide."""

import pytest
import torch
from torch import Tensor

from depthaware import losses
from depthaware.geometry import coordinate_grid
from depthaware.losses.guided import GAPS, GUIDES, OPPOSITE
from depthaware.metrics import mouth_opening


def face(batch: int = 2, seed: int = 0) -> Tensor:
    """Landmarks (B, 68, 2) with eyes above a mouth, each a little elsewhere."""
    points = torch.zeros(68, 2)
    angle = torch.linspace(0, 6.28, 69)[:68]
    circle = torch.stack((angle.cos(), angle.sin()), 1)
    points[:36] = 0.6 * circle[:36]
    points[36:42] = torch.tensor([-0.25, -0.2]) + 0.08 * circle[::11][:6]
    points[42:48] = torch.tensor([0.25, -0.2]) + 0.08 * circle[::11][:6]
    points[48:] = torch.tensor([0.0, 0.35]) + 0.15 * circle[::3][:20]
    return points + 0.01 * torch.randn(batch, 68, 2, generator=torch.Generator().manual_seed(seed))


def test_guided_key_points_are_pulled_to_their_targets_and_the_others_are_free():
    target = losses.guide_points(face())
    value = torch.zeros(2, 14, 2, requires_grad=True)
    points = [3, 1, 0, 2, 5, 4, 7, 6, 13, 9]
    (gradient,) = torch.autograd.grad(losses.guided_keypoint_loss(value, target, points=points), value)
    assert (gradient[:, points].sign() == -target.sign()).all()
    free = sorted(set(range(14)) - set(points))
    assert (gradient[:, free] == 0).all()
    moved = value.detach().clone()
    moved[:, points] = target
    assert losses.guided_keypoint_loss(moved, target, points=points) == 0
    assert losses.guided_keypoint_loss(moved, target) > 0


def test_the_loss_is_the_smooth_l1_by_hand():
    target = torch.tensor([[[0.0, 0.01], [0.5, -0.5]]])
    expected = (0 + 0.5 * 0.01**2 / 0.02 + 2 * (0.5 - 0.01)) / 4
    assert losses.guided_keypoint_loss(torch.zeros(1, 2, 2), target).item() == pytest.approx(expected)


@pytest.mark.parametrize("unknown", [0, 1])
def test_what_no_detector_found_counts_nothing(unknown):
    """A sample without a face changes neither loss nor gradient of the others, and gets none."""
    source, driving = face(seed=1), face(seed=2)
    known = 1 - unknown
    value = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(0)) / 10
    value.requires_grad_()
    motion = (coordinate_grid(8, 8) * 0.5).repeat(2, 1, 1, 1).requires_grad_()

    def terms(value: Tensor, motion: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        target = losses.guide_points(driving)
        gaps = losses.expression_gap_loss(value[:, : len(GUIDES)], target)
        return losses.guided_keypoint_loss(value, target) + gaps + losses.guided_motion_loss(motion, source, driving)

    one = slice(known, known + 1)
    expected = terms(value[one], motion[one], source[one], driving[one])
    driving[unknown] = torch.nan
    found = terms(value, motion, source, driving)
    torch.testing.assert_close(found, expected)
    for gradient in torch.autograd.grad(found, (value, motion)):
        assert (gradient[unknown] == 0).all() and gradient[known].isfinite().all() and gradient[known].any()
    assert terms(value, motion, source, torch.full_like(driving, torch.nan)) == 0


def test_gaps_see_the_opening_of_the_mouth_and_not_its_place():
    target = losses.guide_points(face())
    assert losses.expression_gap_loss(target + torch.tensor([0.2, -0.1]), target) < 1e-6
    opened = target.clone()
    opened[:, 3, 1] += 0.1  # the lower lip
    # One of eight coordinates, beyond the quadratic part.
    assert losses.expression_gap_loss(opened, target).item() == pytest.approx((0.1 - 0.005) / 8, rel=1e-3)
    lids = target.clone()
    lids[:, 5, 1] += 0.1
    assert losses.expression_gap_loss(lids, target) > 2 * losses.expression_gap_loss(opened, target)


def test_guides_and_gaps_are_those_of_the_expressions_measure():
    landmarks = face()
    points = losses.guide_points(landmarks)
    lower, upper = GAPS[0]
    eyes = (landmarks[:, 36:42].mean(1) - landmarks[:, 42:48].mean(1)).norm(dim=1)
    torch.testing.assert_close((points[:, lower] - points[:, upper]).norm(dim=1) / eyes, mouth_opening(landmarks))
    torch.testing.assert_close(points[:, 4], landmarks[:, 37:39].mean(1))


def test_the_motion_that_carries_the_landmarks_has_no_loss_and_another_is_pulled_to_it():
    """An affine motion, which is exact at every place between the grid's points."""
    linear, shift = torch.tensor([[0.9, 0.1], [-0.1, 0.8]]), torch.tensor([0.05, -0.1])
    driving = face()
    source = driving @ linear.T + shift
    grid = coordinate_grid(16, 16).expand(2, -1, -1, -1)
    exact = grid @ linear.T + shift
    assert losses.guided_motion_loss(exact, source, driving) < 1e-8
    motion = grid.clone().requires_grad_()
    rates = []
    for _ in range(3):
        loss = losses.guided_motion_loss(motion, source, driving)
        (gradient,) = torch.autograd.grad(loss, motion)
        motion = (motion - 2 * gradient).detach().requires_grad_()
        rates.append(loss.item())
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]


def test_opposite_landmarks_count_beside_the_places():
    driving = face()
    motion = coordinate_grid(16, 16).expand(2, -1, -1, -1) * 0.5
    alone = losses.guided_motion_loss(motion, driving, driving, opposite=())
    both = losses.guided_motion_loss(motion, driving, driving)
    ends, starts = torch.tensor(OPPOSITE).T
    apart = torch.nn.functional.smooth_l1_loss(
        0.5 * (driving[:, ends] - driving[:, starts]), driving[:, ends] - driving[:, starts], beta=0.02
    )
    torch.testing.assert_close(both - alone, apart, atol=1e-5, rtol=1e-4)


def test_any_landmarks_can_guide_the_motion_and_those_outside_count_nothing():
    points = torch.tensor([[[0.1, 0.2], [1.4, 0.0]]])
    motion = coordinate_grid(8, 8)[None]
    weights = torch.tensor([1.0, 5.0])
    assert losses.guided_motion_loss(motion, points * 0, points, weights=weights, opposite=()).item() == pytest.approx(
        (0.1 + 0.2 - 0.02) / 2, rel=1e-3
    )


def test_weights_of_regions_are_high_at_mouth_and_eyes_and_one_elsewhere():
    landmarks = face()
    weights = losses.region_weights(landmarks, (65, 129), gain=5.0)
    assert weights.shape == (2, 1, 65, 129)
    for part, least in ((slice(48, 68), 5.5), (slice(36, 42), 5.5), (slice(42, 48), 5.5)):
        x, y = landmarks[0, part].mean(0).tolist()
        assert weights[0, 0, round((y + 1) * 32), round((x + 1) * 64)] > least
    assert weights[:, :, 0].max() < 1.01 and weights.min() >= 1
    assert (losses.region_weights(landmarks * torch.nan, (4, 4)) == 1).all()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected 10 of the 5 key points, got \[0, 1,"):
        losses.guided_keypoint_loss(torch.zeros(1, 5, 2), losses.guide_points(face(1)))
    with pytest.raises(ValueError, match=r"landmarks: expected \(B, 68, 2\), got \(1, 5, 2\)"):
        losses.region_weights(torch.zeros(1, 5, 2), (4, 4))
    with pytest.raises(ValueError, match="weights: expected 5, one of each landmark, got 68"):
        losses.guided_motion_loss(torch.zeros(1, 4, 4, 2), torch.zeros(1, 5, 2), torch.zeros(1, 5, 2))
