"""Training data: clips, random access to their frames, pairs and triples, batches, augmentation, shards."""

from .. import submodules
from .augment import ColorMap, color_map, random_color_map
from .clip_reader import Clip, ClipReader, list_clips
from .clips import Clips
from .frames import VideoIndex, crop_square, index_video, read_clip, read_frames
from .pairs import FramePairs, FrameTriples, batches
from .shards import ShardIndex, TarMember, find_shards, index_shards

__all__ = [
    "Clip",
    "ClipReader",
    "Clips",
    "ColorMap",
    "FramePairs",
    "FrameTriples",
    "ShardIndex",
    "TarMember",
    "VideoIndex",
    "batches",
    "color_map",
    "crop_square",
    "find_shards",
    "index_shards",
    "index_video",
    "list_clips",
    "random_color_map",
    "read_clip",
    "read_frames",
]

__getattr__ = submodules(__name__)
