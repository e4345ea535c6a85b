"""Inference: animation, depth maps, and a model made fast."""
