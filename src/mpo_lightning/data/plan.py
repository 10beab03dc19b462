"""The order of training as a pure function of (seed, epoch, index).

In an epoch, the shards come in a seeded permutation. The records of a window of shards are shuffled together and
divided into global steps. A global step is a set of pairs; each rank gets micro-batches of them, balanced by cost.
Nothing depends on loader workers or timing, so the whole state of the order is the number of finished global steps.

Up to `pairs_per_question` pairs of one question stay together in the order, and in a row. There they share images,
prompt, and the answers that they have in common. Where a step is full, such a group is cut in two.

repeat_time is part of the order: 2.5 means two occurrences of every record in an epoch, and a third one of a fixed,
seeded half (the reference rounds numbers above 1 down).
A micro-batch is one row of at most `micro_batch_size` groups, and at most `max_row_tokens` tokens unless a single group
has more. Every rank gets the same number of rows in every step, so ranks stay synchronized; some rows may be empty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpo_lightning.data.balance import Costs, TokenCosts, balance, costs_of_groups, pack
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
        questions: the pairs, those of one question together; may be empty.
        step_pairs: number of pairs in the whole global step, over all ranks and micro-batches.
        last_of_step: whether the optimizer steps after this micro-batch.
        ahead: shards that this step and the next ones need, in that order; empty if none must be fetched.
    """

    questions: tuple[tuple[Occurrence, ...], ...]
    step_pairs: int
    last_of_step: bool
    ahead: tuple[int, ...] = ()

    @property
    def occurrences(self) -> tuple[Occurrence, ...]:
        return tuple(occurrence for question in self.questions for occurrence in question)


@dataclass(frozen=True)
class Plan:
    """The training order of an index.

    Attributes:
        index: index of the records.
        seed: seed of shuffling and of fractional repeats.
        global_batch_size: pairs in a global step.
        micro_batch_size: most groups in a row, a group being the pairs of one question that stay together.
        world_size: number of ranks.
        shuffle: False keeps the order of the shards and ignores repeat_time (validation).
        window: number of shards whose records are shuffled together.
        max_steps: most global steps in an epoch; None means all.
        max_row_tokens: most tokens in a row, as the index counts them; None means no limit.
        tokens_per_tile: image tokens of a tile.
        epochs: epochs searched for the fullest step; a fuller step of a later epoch exceeds the limits of a row.
        work: what balances a step over devices; None takes tokens.
        pairs_per_question: most pairs of one question that stay together; 1 shuffles all pairs.

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
    work: Costs | None = None
    pairs_per_question: int = 1

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
        rows = -(-self.most_groups // self.micro_batch_size)
        if self.max_row_tokens is not None:
            rows = max(rows, *(self._rows_needed(order) for order in self._orders()))
        return -(-rows // self.world_size)

    @cached_property
    def most_groups(self) -> int:
        """Number of groups in the step of the run that has most."""
        if self.pairs_per_question == 1:
            return self.global_batch_size
        last_groups = (self.groups(order, self._ends)[self._ends - 1] for order in self._orders())
        return max(int(np.diff(last, prepend=-1).max()) for last in last_groups)

    def _orders(self) -> Iterator[np.ndarray]:
        """The order of each epoch, as far as it is used."""
        for epoch in range(self.epochs if self.shuffle else 1):
            yield self.epoch_order(epoch)[: self._ends[-1]]

    def _step(self, order: np.ndarray, step: int) -> np.ndarray:
        return order[self._start(step) : self._ends[step]]

    def _start(self, step: int) -> int:
        return int(self._ends[step - 1]) if step else 0

    @cached_property
    def _ends(self) -> np.ndarray:
        """int64 [steps]: where each step of an epoch ends in the order."""
        pairs = int(self.copies.sum())
        if self.shuffle or self.pairs_per_question == 1:
            ends = np.arange(self.global_batch_size, pairs + self.global_batch_size, self.global_batch_size)
        else:
            # An evaluation's step has as many groups as its rows have room for, however many pairs these are.
            room = self.world_size * self.micro_batch_size
            starts = np.flatnonzero(np.diff(self.groups(self.epoch_order(0)), prepend=-1))
            ends = np.append(starts[room::room], pairs)
        return np.minimum(ends, pairs)[: self.max_steps]

    def _rows_needed(self, order: np.ndarray) -> int:
        """Number of rows over all ranks that the fullest step of an order needs within `max_row_tokens`."""
        assert self.max_row_tokens is not None
        rows = 0
        for step in range(self.steps):
            pairs = self._step(order, step)
            tokens = self._costs(self._tokens, pairs[:, 0], self.groups(pairs))
            rows = max(rows, len(pack(tokens, self.micro_batch_size, self.max_row_tokens)))
        return rows

    def groups(self, pairs: np.ndarray, ends: np.ndarray | None = None) -> np.ndarray:
        """int64 [pairs]: the group of each pair; pairs of one question that stay together have one.

        Args:
            pairs: record and copy of each, in order.
            ends: where steps end, at which groups are cut; None is one step.
        """
        number = np.arange(len(pairs))
        if self.pairs_per_question == 1:
            return number
        question = np.asarray(self.index.records["first_member"])[pairs[:, 0]]
        new = np.ones(len(pairs), dtype=bool)
        new[1:] = (question[1:] != question[:-1]) | (pairs[1:, 1] != pairs[:-1, 1])
        if ends is not None:
            new[ends[:-1]] = True
        first = np.maximum.accumulate(np.where(new, number, 0))
        new |= (number - first) % self.pairs_per_question == 0
        return np.cumsum(new) - 1

    def rows_of_step(self, pairs: np.ndarray) -> list[list[list[int]]]:
        """Divides a step's pairs into world_size * micro_batches_per_step rows, sorted by work.

        Args:
            pairs: record and copy of each pair.

        Returns:
            For each row its groups, and of each group the places of its pairs.
        """
        groups = self.groups(pairs)
        tokens = self._costs(self._tokens, pairs[:, 0], groups)
        work = self._costs(self.work or self._tokens, pairs[:, 0], groups)
        count = self.world_size * self.micro_batches_per_step
        # A step of an epoch beyond `epochs` may need more rows than there are; it then exceeds the limits.
        most = max(self.micro_batch_size, -(-len(work) // count))
        rows = balance(work, count, most)
        if self.max_row_tokens is not None and any(
            len(row) > 1 and tokens[row].sum() > self.max_row_tokens for row in rows
        ):
            packed = pack(tokens, self.micro_batch_size, self.max_row_tokens)
            if len(packed) <= count:
                rows = packed + [[]] * (count - len(packed))
        rows.sort(key=lambda row: -float(work[row].sum()))
        return [[np.flatnonzero(groups == group).tolist() for group in row] for row in rows]

    @property
    def steps(self) -> int:
        """Number of global steps in an epoch, including a partial last one."""
        return len(self._ends)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """int64 [occurrences, 2]: record and copy of each occurrence, in order."""
        records = np.repeat(np.arange(len(self.index)), self.copies)
        copy = np.arange(len(records)) - np.repeat(np.cumsum(self.copies) - self.copies, self.copies)
        order = np.stack([records, copy], axis=1)
        if self.pairs_per_question > 1:
            question = np.asarray(self.index.records["first_member"])[records]
            order = order[np.lexsort((records, copy, question))]
        if not self.shuffle:
            return order
        starts = np.flatnonzero(np.diff(self.groups(order), prepend=-1))
        rng = np.random.default_rng([self.seed, epoch])
        shard_of = np.asarray(self.index.records["shard"])[order[starts, 0]]
        first_of = np.searchsorted(shard_of, np.arange(len(self.index.shards) + 1))
        shards = rng.permutation(len(self.index.shards))
        windows = []
        for first in range(0, len(shards), self.window):
            parts = [np.arange(first_of[shard], first_of[shard + 1]) for shard in shards[first : first + self.window]]
            windows.append(rng.permutation(np.concatenate(parts)))
        shuffled = np.concatenate(windows)
        # The pairs of each group, group after group.
        sizes = np.diff(starts, append=len(order))[shuffled]
        within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return order[np.repeat(starts[shuffled], sizes) + within]

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
            pairs = self._step(order, step)
            rows = self.rows_of_step(pairs)
            skip = start % per_step if step == start // per_step else 0
            ahead: tuple[int, ...] = ()
            if self.index.source is not None:
                ahead = tuple(needed[last_need >= self._start(step)][: 2 * self.window].tolist())
            for micro in range(skip, per_step):
                # Alternate the direction over ranks, so that no rank always has the largest row.
                place = rank if micro % 2 == 0 else self.world_size - 1 - rank
                questions = tuple(
                    tuple(Occurrence(int(pairs[pair, 0]), epoch, int(pairs[pair, 1])) for pair in group)
                    for group in rows[micro * self.world_size + place]
                )
                yield MicroBatch(questions, len(pairs), last_of_step=micro == per_step - 1, ahead=ahead)

    def _costs(self, costs: Costs, records: np.ndarray, groups: np.ndarray) -> np.ndarray:
        return costs_of_groups(costs, self.index.records[records], groups)

    @property
    def _tokens(self) -> TokenCosts:
        return TokenCosts(self.tokens_per_tile)
