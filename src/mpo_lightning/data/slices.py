"""A share of numbered things for each rank, when every one is looked at once and order does not matter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


class Slices(DistributedSampler[Any]):
    """One rank's share of the numbers still to do, in slices. A DistributedSampler, so that Lightning leaves it in
    place.

    Args:
        numbers: int64 [things].
        size: most numbers in a slice.
        rank: whose share.
        world_size: ranks.
    """

    def __init__(self, numbers: np.ndarray, size: int, rank: int, world_size: int) -> None:
        starts = range(0, len(numbers), size)
        # The same number of slices on every rank, so that sharded models stay in step; the last ones may be empty.
        count = -(-len(starts) // world_size)
        chunks = [numbers[start : start + size].tolist() for start in starts]
        self._mine = [
            chunks[number] if number < len(chunks) else [] for number in range(rank, count * world_size, world_size)
        ]

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mine)
