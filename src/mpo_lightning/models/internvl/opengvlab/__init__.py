"""Checkpoints in the original OpenGVLab layout: read, written, and given to tools that know only that one."""
