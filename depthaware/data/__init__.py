"""Training data: clips, random access to their frames, pairs and triples, batches, augmentation, shards."""

from .. import submodules
from .augment import ColorMap, color_map, move, random_color_map, random_placement
from .clip_reader import Clip, ClipReader, list_clips
from .clips import Clips
from .frames import VideoIndex, crop_square, index_video, read_clip, read_frames
from .guided_pairs import GuidedPairs
from .landmarks import Landmarks, choose_pair, expression, find_landmarks
from .pairs import FramePairs, FrameTriples, batches
from .shards import ShardIndex, TarMember, find_shards, index_shards

__all__ = [
    "Clip",
    "ClipReader",
    "Clips",
    "ColorMap",
    "FramePairs",
    "FrameTriples",
    "GuidedPairs",
    "Landmarks",
    "ShardIndex",
    "TarMember",
    "VideoIndex",
    "batches",
    "choose_pair",
    "color_map",
    "crop_square",
    "expression",
    "find_landmarks",
    "find_shards",
    "index_shards",
    "index_video",
    "list_clips",
    "move",
    "random_color_map",
    "random_placement",
    "read_clip",
    "read_frames",
]

__getattr__ = submodules(__name__)
