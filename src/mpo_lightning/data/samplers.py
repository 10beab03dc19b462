"""Samplers of one rank: of numbered items that are read once in any order, and of the plan's micro-batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from mpo_lightning.data.plan import Plan


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


class PlanSampler(DistributedSampler[Any]):
    """Gives one rank's micro-batches to a DataLoader with `batch_size=None`.

    It is a DistributedSampler so that Lightning keeps it and calls `set_epoch`. In a resumed epoch it starts after the
    finished steps, however often it is iterated (Lightning does so twice).

    Args:
        plan: the training order.
        rank: rank that gets the micro-batches.
        done_steps: global steps that a resumed run has finished, over all epochs.
    """

    def __init__(self, plan: Plan, rank: int, done_steps: int = 0) -> None:
        self.plan = plan
        self.rank = rank
        self.epoch = 0
        self.resumed_epoch, self.resumed_step = divmod(done_steps, plan.steps)

    def __len__(self) -> int:
        return self.plan.steps * self.plan.micro_batches_per_step

    def __iter__(self) -> Iterator[Any]:
        # At the end of an epoch Lightning resumes with the previous epoch; trust the number of finished steps.
        epoch = max(self.epoch, self.resumed_epoch)
        done = self.resumed_step * self.plan.micro_batches_per_step if epoch == self.resumed_epoch else 0
        return self.plan.rank_micro_batches(epoch, self.rank, done)
