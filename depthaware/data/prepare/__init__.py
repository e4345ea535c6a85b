"""Preparation of training clips: face detection, shots and spans, square crops, encoding, records, shards."""

from .clip_files import EncodedClip, pick_frames, write_clip
from .clip_records import DroppedRow, ManifestRow, Record, write_tables
from .face_crops import Box, Crop, central_square, face_crop
from .face_detection import BoxDetector, Detection, central_detector, face_boxes
from .raw_videos import choose_layout, find_raw, identity_of, split_of
from .shard_files import ShardSample, write_shards
from .spans import Shot, Span, divide, find_shots, find_spans
from .workers import map_in_processes

__all__ = [
    "Box",
    "BoxDetector",
    "Crop",
    "Detection",
    "DroppedRow",
    "EncodedClip",
    "ManifestRow",
    "Record",
    "ShardSample",
    "Shot",
    "Span",
    "central_detector",
    "central_square",
    "choose_layout",
    "divide",
    "face_boxes",
    "face_crop",
    "find_raw",
    "find_shots",
    "find_spans",
    "identity_of",
    "map_in_processes",
    "pick_frames",
    "split_of",
    "write_clip",
    "write_shards",
    "write_tables",
]
