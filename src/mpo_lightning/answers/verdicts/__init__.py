"""Verdicts by the kind of the right answer."""
