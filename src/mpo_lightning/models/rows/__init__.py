"""Rows of pairs through a model: shared-prefix attention, rope per pair, and the head on response tokens alone."""
