"""Terms of stage 2 that landmarks guide, for mouth and eyes; none is in the paper."""

import torch
from torch import Tensor, nn

from ..dagan import DaGANOutput
from ..losses import expression_gap_loss, guide_points, guided_keypoint_loss, guided_motion_loss
from ..losses.guided import GUIDES

GUIDED = len(GUIDES)
"""Number of key points, the first ones, that landmarks guide."""


def guided_terms(
    out: DaGANOutput, landmarks_source: Tensor, landmarks_driving: Tensor, *, guide: float, gaps: float, motion: float
) -> dict[str, Tensor]:
    """Weighted terms of key points and motion at landmarks.

    Args:
        out: of the model; its first `GUIDED` key points are guided.
        landmarks_source: (B, 68, 2) in [-1, 1]; NaN where unknown.
        landmarks_driving: likewise.
        guide: weight of `guided_keypoint_loss`, over source and driving frame.
        gaps: weight of `expression_gap_loss`, likewise.
        motion: weight of `guided_motion_loss`.
    """
    target = guide_points(torch.cat((landmarks_source, landmarks_driving)))
    value = torch.cat((out.kp_source.value, out.kp_driving.value))
    return {
        "guided_keypoints": guide * guided_keypoint_loss(value, target),
        "expression_gaps": gaps * expression_gap_loss(value[:, :GUIDED], target),
        "guided_motion": motion * guided_motion_loss(out.deformation, landmarks_source, landmarks_driving),
    }


def consistency_loss(detector: nn.Module, out: DaGANOutput, driving: Tensor) -> Tensor:
    """Error of the guided key points that a frozen detector finds in the result, to those in the driving frame.

    Args:
        detector: frozen, such as the moving average's; the result alone gets a gradient.
        out: of the model. The disparity of the driving frame stands for that of the result.
        driving: (B, 3, H, W) in [0, 1].
    """
    disparity = out.disparity_driving
    with torch.no_grad():
        target = detector(driving, disparity).value[:, :GUIDED]
    value = detector(out.prediction, disparity).value[:, :GUIDED]
    return guided_keypoint_loss(value, target) + expression_gap_loss(value, target)
