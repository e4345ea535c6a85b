"""Weights: bundled, on disk, on the Hub, and from checkpoints of other code."""
