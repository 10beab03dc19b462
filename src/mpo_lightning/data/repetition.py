"""How much of a text is repetition."""

from collections.abc import Hashable, Sequence

RUN = 4


def repeated_share(units: Sequence[Hashable]) -> float:
    """The share of runs of four units (tokens, words) that the text has had before. 0 for a short one."""
    runs = [tuple(units[place : place + RUN]) for place in range(len(units) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= RUN else 0.0
