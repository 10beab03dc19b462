"""The order of training as a pure function of (seed, epoch, index).

In an epoch, the shards come in a seeded permutation. The records of a window of shards are shuffled together and
divided into global steps. A global step is a set of pairs; each rank gets micro-batches of them, balanced by cost.
Nothing depends on loader workers or timing, so the whole state of the order is the number of finished global steps.

repeat_time is part of the order: 2.5 means two occurrences of every record in an epoch, and a third one of a fixed,
seeded half (the reference rounds numbers above 1 down).
A micro-batch is one row of at most `micro_batch_size` pairs, and at most `max_row_tokens` tokens unless a single pair
has more. Every rank gets the same number of rows in every step, so ranks stay synchronized; some rows may be empty.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from mpo_lightning.data.shards.index import ShardIndex
from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class Occurrence:
    """One occurrence of a record in the training order; it seeds all randomness applied to the record."""

    record: int
    epoch: int
    copy: int

    def seed(self, run_seed: int) -> int:
        """A 63-bit seed of this occurrence, given the seed of the run."""
        state = np.random.SeedSequence([run_seed, self.epoch, self.record, self.copy]).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(1))


@dataclass(frozen=True)
class MicroBatch:
    """The pairs that one rank computes at once, and their place in the global step.

    Attributes:
        occurrences: the pairs; may be empty in the last step of an epoch.
        step_pairs: number of pairs in the whole global step, over all ranks and micro-batches.
        last_of_step: whether the optimizer steps after this micro-batch.
        ahead: shards that this step and the next ones need, in that order; empty if none must be fetched.
    """

    occurrences: tuple[Occurrence, ...]
    step_pairs: int
    last_of_step: bool
    ahead: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The training order of an index.

    Attributes:
        index: index of the records.
        seed: seed of shuffling and of fractional repeats.
        global_batch_size: pairs in a global step.
        micro_batch_size: most pairs in a row.
        world_size: number of ranks.
        shuffle: False keeps the order of the shards and ignores repeat_time (validation).
        window: number of shards whose records are shuffled together.
        max_steps: most global steps in an epoch; None means all.
        max_row_tokens: most tokens in a row, as the index counts them; None means no limit.
        tokens_per_tile: image tokens of a tile.
        epochs: epochs searched for the fullest step; a fuller step of a later epoch exceeds max_row_tokens.
        flops: work of each of some rows of the index, to balance a step over devices; None uses their tokens.

    Raises:
        InputError: a data set whose repeat_time selects none of its records.
    """

    index: ShardIndex
    seed: int
    global_batch_size: int
    micro_batch_size: int
    world_size: int = 1
    shuffle: bool = True
    window: int = 16
    max_steps: int | None = None
    max_row_tokens: int | None = None
    tokens_per_tile: int = 256
    epochs: int = 1
    flops: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        sets = len(self.index.datasets)
        dataset_of = np.asarray(self.index.records["dataset"])
        records = np.bincount(dataset_of, minlength=sets)
        if len(records) > sets:
            raise InputError(
                f"{self.index.folder}: the index names {sets} data sets, but its records name {len(records)}; run 'mpo "
                "data index' again"
            )
        occurrences = np.bincount(dataset_of, self.copies, minlength=sets)
        for number, (entry, count, chosen) in enumerate(zip(self.index.datasets, records, occurrences, strict=True)):
            if count and not chosen:
                shard = int(self.index.records["shard"][np.argmax(dataset_of == number)])
                raise InputError(
                    f"{self.index.place(shard)}: a repeat_time (times the folder's weight) of {entry.repeat_time:g} "
                    f"selects none of the {count:,} records of the "
                    f"data set '{entry.name}'; raise it to at least {1 / count:.2g}, or leave the data set out"
                )

    @cached_property
    def copies(self) -> np.ndarray:
        """int64 [records]: number of occurrences of each record in an epoch.

        A whole repeat_time repeats every record. A fraction adds int(fraction * records) of them, always the same ones,
        as many as the reference draws.
        """
        if not self.shuffle:
            return np.ones(len(self.index), dtype=np.int64)
        dataset_of = np.asarray(self.index.records["dataset"])
        copies = np.array([int(entry.repeat_time) for entry in self.index.datasets], dtype=np.int64)[dataset_of]
        for number, entry in enumerate(self.index.datasets):
            whole = int(entry.repeat_time)
            if entry.repeat_time == whole:
                continue
            members = np.flatnonzero(dataset_of == number)
            extra = int((entry.repeat_time - whole) * len(members) + 1e-6)
            copies[np.random.default_rng([self.seed, number]).permutation(members)[:extra]] += 1
        return copies

    @cached_property
    def micro_batches_per_step(self) -> int:
        """Number of rows that each rank computes in a global step: as many as the fullest step of the run needs."""
        rows = -(-self.global_batch_size // self.micro_batch_size)
        if self.max_row_tokens is not None:
            for epoch in range(self.epochs if self.shuffle else 1):
                tokens = self.tokens(self.epoch_order(epoch)[:, 0])
                for step in range(self.steps):
                    part = tokens[step * self.global_batch_size : (step + 1) * self.global_batch_size]
                    rows = max(rows, len(pack(part, self.micro_batch_size, self.max_row_tokens)))
        return -(-rows // self.world_size)

    def rows_of_step(self, records: np.ndarray) -> list[list[int]]:
        """Divides a step's pairs, by place, into world_size * micro_batches_per_step rows, sorted by work."""
        tokens, work = self.tokens(records), self.work(records)
        count = self.world_size * self.micro_batches_per_step
        rows = balance(work, count, self.micro_batch_size)
        if self.max_row_tokens is not None and any(
            len(row) > 1 and tokens[row].sum() > self.max_row_tokens for row in rows
        ):
            packed = pack(tokens, self.micro_batch_size, self.max_row_tokens)
            # A step of an epoch beyond `epochs` may need more rows than there are; it then exceeds the limit.
            if len(packed) <= count:
                rows = packed + [[]] * (count - len(packed))
        return sorted(rows, key=lambda row: -float(work[row].sum()))

    @property
    def steps(self) -> int:
        """Number of global steps in an epoch, including a partial last one."""
        steps = -(-int(self.copies.sum()) // self.global_batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """int64 [occurrences, 2]: record and copy of each occurrence, in order."""
        records = np.repeat(np.arange(len(self.index)), self.copies)
        copy = np.arange(len(records)) - np.repeat(np.cumsum(self.copies) - self.copies, self.copies)
        order = np.stack([records, copy], axis=1)
        if not self.shuffle:
            return order
        rng = np.random.default_rng([self.seed, epoch])
        starts = np.searchsorted(
            np.asarray(self.index.records["shard"])[records], np.arange(len(self.index.shards) + 1)
        )
        shards = rng.permutation(len(self.index.shards))
        windows = []
        for first in range(0, len(shards), self.window):
            parts = [np.arange(starts[shard], starts[shard + 1]) for shard in shards[first : first + self.window]]
            windows.append(rng.permutation(np.concatenate(parts)))
        return order[np.concatenate(windows)]

    def shard_needs(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shards of an order by first use, and the place in the order of each one's last record."""
        shards = np.asarray(self.index.records["shard"])[order[:, 0]]
        found, first = np.unique(shards, return_index=True)
        last = len(shards) - 1 - np.unique(shards[::-1], return_index=True)[1]
        by_need = np.argsort(first)
        return found[by_need], last[by_need]

    def rank_micro_batches(self, epoch: int, rank: int, start: int = 0) -> Iterator[MicroBatch]:
        """Yields the micro-batches of one rank in an epoch, starting with number `start`."""
        order = self.epoch_order(epoch)
        per_step = self.micro_batches_per_step
        if self.index.source is not None:
            needed, last_need = self.shard_needs(order)
        for step in range(start // per_step, self.steps):
            pairs = order[step * self.global_batch_size : (step + 1) * self.global_batch_size]
            rows = self.rows_of_step(pairs[:, 0])
            skip = start % per_step if step == start // per_step else 0
            ahead: tuple[int, ...] = ()
            if self.index.source is not None:
                ahead = tuple(needed[last_need >= step * self.global_batch_size][: 2 * self.window].tolist())
            for micro in range(skip, per_step):
                # Alternate the direction over ranks, so that no rank always has the largest row.
                place = rank if micro % 2 == 0 else self.world_size - 1 - rank
                chosen = rows[micro * self.world_size + place]
                occurrences = tuple(Occurrence(int(pairs[pair, 0]), epoch, int(pairs[pair, 1])) for pair in chosen)
                yield MicroBatch(occurrences, len(pairs), last_of_step=micro == per_step - 1, ahead=ahead)

    def work(self, records: np.ndarray) -> np.ndarray:
        """float64 [records]: cost of each record on a device, in any unit."""
        return np.asarray(
            self.tokens(records) if self.flops is None else self.flops(self.index.records[records]), dtype=np.float64
        )

    def tokens(self, records: np.ndarray) -> np.ndarray:
        """int64 [records]: tokens of each record in the language model, with prompt and images counted once."""
        rows = self.index.records[records]
        counts = (
            rows["prompt_tokens"]
            + rows["chosen_tokens"]
            + rows["rejected_tokens"]
            + self.tokens_per_tile * rows["tiles"]
        )
        return np.asarray(counts, dtype=np.int64)


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
