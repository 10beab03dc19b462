"""What groups of pairs cost, and how they are divided over rows.

A group is the pairs of one question that stay together: its prompt counts once, and each of its answers once.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpo_lightning.data.shards.index import ANSWERS


class Costs(Protocol):
    """What a question costs, in any unit: its prompt with images once, and each of its answers once."""

    def prompt(self, rows: np.ndarray) -> np.ndarray:
        """Costs of the prompts of some rows of the index."""

    def answer(self, rows: np.ndarray, side: str) -> np.ndarray:
        """Costs of the answers "chosen" or "rejected" of some rows of the index, behind their prompts."""


@dataclass(frozen=True)
class TokenCosts:
    """Tokens in the language model.

    Attributes:
        tokens_per_tile: image tokens of a tile.
    """

    tokens_per_tile: int

    def prompt(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows["prompt_tokens"] + self.tokens_per_tile * rows["tiles"].astype(np.int64))

    def answer(self, rows: np.ndarray, side: str) -> np.ndarray:
        return np.asarray(rows[f"{side}_tokens"].astype(np.int64))


def costs_of_groups(costs: Costs, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """[groups]: cost of each group of pairs.

    Args:
        costs: what counts.
        rows: row of the index of each pair.
        groups: group of each pair, in ascending order from 0.
    """
    total = costs.prompt(rows[np.flatnonzero(np.diff(groups, prepend=-1))])
    answers = np.concatenate([groups << 32 | rows[side].astype(np.int64) for side in ANSWERS])
    each = np.concatenate([costs.answer(rows, side) for side in ANSWERS])
    _, once = np.unique(answers, return_index=True)
    np.add.at(total, np.tile(groups, 2)[once], each[once])
    return total


def balance(costs: np.ndarray, num_bins: int, capacity: int) -> list[list[int]]:
    """Spreads items over bins of limited capacity: largest first, into the lightest bin, so that no bin is heavy.

    Args:
        costs: [items], cost of each item.
        num_bins: number of bins.
        capacity: most items in a bin.

    Returns:
        The items of each bin, in ascending order.
    """
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = np.zeros(num_bins)
    for item in np.argsort(-costs, kind="stable"):
        lightest = int(np.argmin(loads))
        bins[lightest].append(int(item))
        loads[lightest] = loads[lightest] + costs[item] if len(bins[lightest]) < capacity else np.inf
    return [sorted(items) for items in bins]


def pack(costs: np.ndarray, capacity: int, budget: int) -> list[list[int]]:
    """Packs items into few bins of limited capacity and budget, by first-fit decreasing.

    Args:
        costs: [items], cost of each item.
        capacity: most items in a bin.
        budget: most cost in a bin; an item that costs more is alone in its bin.

    Returns:
        The items of each bin, in ascending order.
    """
    bins: list[list[int]] = []
    room = np.zeros(len(costs), dtype=np.int64)
    for item in np.argsort(-costs, kind="stable"):
        fits = np.flatnonzero(room[: len(bins)] >= costs[item])
        if len(fits):
            target = int(fits[0])
        else:
            target = len(bins)
            bins.append([])
            room[target] = budget
        bins[target].append(int(item))
        room[target] = room[target] - costs[item] if len(bins[target]) < capacity else -1
    return [sorted(items) for items in bins]
