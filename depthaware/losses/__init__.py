"""Training losses: pure functions without a weight, and thin Modules that hold the options and a weight."""

from .adversarial import (
    FeatureMatchingLoss,
    LSGANDiscriminatorLoss,
    LSGANGeneratorLoss,
    feature_matching_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from .disparity import SmoothnessLoss, flip_consistency_loss, smoothness_loss
from .equivariance import Equivariance, EquivarianceLoss, RandomTransform, equivariance_loss
from .guided import expression_gap_loss, guide_points, guided_keypoint_loss, guided_motion_loss, region_weights
from .keypoint import KeypointDistanceLoss, keypoint_distance_loss
from .objective import DaGANLoss, DaGANTerms, discriminator_loss
from .perceptual import PerceptualLoss, VGG19Features, perceptual_loss
from .photometric import ReprojectionLoss, photometric_error, reprojection_loss, ssim_map
from .self_supervised import SelfSupDepthLoss, reproject, self_supervised_depth_loss

__all__ = [
    "DaGANLoss",
    "DaGANTerms",
    "Equivariance",
    "EquivarianceLoss",
    "FeatureMatchingLoss",
    "KeypointDistanceLoss",
    "LSGANDiscriminatorLoss",
    "LSGANGeneratorLoss",
    "PerceptualLoss",
    "RandomTransform",
    "ReprojectionLoss",
    "SelfSupDepthLoss",
    "SmoothnessLoss",
    "VGG19Features",
    "discriminator_loss",
    "equivariance_loss",
    "expression_gap_loss",
    "feature_matching_loss",
    "flip_consistency_loss",
    "guide_points",
    "guided_keypoint_loss",
    "guided_motion_loss",
    "keypoint_distance_loss",
    "lsgan_discriminator_loss",
    "lsgan_generator_loss",
    "perceptual_loss",
    "photometric_error",
    "region_weights",
    "reproject",
    "reprojection_loss",
    "self_supervised_depth_loss",
    "smoothness_loss",
    "ssim_map",
]
