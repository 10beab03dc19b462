"""Checkpoints that are whole or not there: writing, choosing, and repairing what a kill left."""
