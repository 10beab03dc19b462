"""Checkpoints in the original OpenGVLab layout: reading, writing and conversion."""
