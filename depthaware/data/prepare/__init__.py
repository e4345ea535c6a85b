"""Preparation of training clips: face detection, shots and spans, square crops, encoding, records, shards."""

from .clip_files import EncodedClip, pick_frames, write_clip
from .clip_records import DroppedRow, ManifestRow, Record, write_tables
from .face_crops import Box, Crop, central_square, face_crop
from .face_detection import Detection, FaceDetector, central_detector, dlib_detector
from .raw_videos import choose_layout, find_raw, identity_of, split_of
from .shard_files import ShardSample, write_shards
from .spans import Shot, Span, divide, find_shots, find_spans
from .workers import map_in_processes

__all__ = [
    "Box",
    "Crop",
    "Detection",
    "DroppedRow",
    "EncodedClip",
    "FaceDetector",
    "ManifestRow",
    "Record",
    "ShardSample",
    "Shot",
    "Span",
    "central_detector",
    "central_square",
    "choose_layout",
    "divide",
    "dlib_detector",
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
