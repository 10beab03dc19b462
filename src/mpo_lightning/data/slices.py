"""Divides numbered items over ranks, when each is read once and the order does not matter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


class Slices(DistributedSampler[Any]):
    """One rank's share of the remaining numbers, in slices. A DistributedSampler, so that Lightning keeps it.

    Args:
        numbers: int64 [items], the numbers still to do.
        size: most numbers in a slice.
        rank: rank that gets this share.
        world_size: number of ranks.
    """

    def __init__(self, numbers: np.ndarray, size: int, rank: int, world_size: int) -> None:
        starts = range(0, len(numbers), size)
        # The same number of slices on every rank keeps sharded models synchronized; the last slices may be empty.
        count = -(-len(starts) // world_size)
        chunks = [numbers[start : start + size].tolist() for start in starts]
        self._mine = [
            chunks[number] if number < len(chunks) else [] for number in range(rank, count * world_size, world_size)
        ]

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mine)
