"""The order: every occurrence once, the same for any number of ranks, even in cost and in forwards."""

from pathlib import Path

import numpy as np
import pytest

from mpo_lightning.data.balance import balance, pack
from mpo_lightning.data.plan import Plan
from mpo_lightning.data.samplers import PlanSampler
from mpo_lightning.data.shards.index import ShardIndex, record_dtype
from mpo_lightning.data.shards.index_summary import DatasetEntry, ShardEntry
from mpo_lightning.errors import InputError


def index_of(shard_sizes: list[int], repeats: tuple[float, ...] = (1.0,)) -> ShardIndex:
    """An index whose records belong to the data sets in turn."""
    rng = np.random.default_rng(0)
    records = np.zeros(sum(shard_sizes), dtype=record_dtype(4))
    records["shard"] = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    records["dataset"] = np.arange(len(records)) % len(repeats)
    records["first_member"], records["rejected"] = np.arange(len(records)), 1
    records["tiles"] = rng.integers(0, 13, len(records))
    for name in ("prompt_tokens", "chosen_tokens", "rejected_tokens"):
        records[name] = rng.integers(5, 400, len(records))
    shards = tuple(ShardEntry(f"{number}.tar", size, 0, "") for number, size in enumerate(shard_sizes))
    return ShardIndex(
        Path(), shards, tuple(DatasetEntry(f"set{n}", repeat) for n, repeat in enumerate(repeats)), records, records
    )


def tokens_of(plan: Plan, records: np.ndarray) -> np.ndarray:
    """Tokens of single pairs."""
    rows = plan.index.records[records].astype(object)
    return np.array([row[5] * plan.tokens_per_tile + sum(row[6:9]) for row in rows.tolist()])


def steps_of(plan: Plan, epoch: int = 0) -> list[set]:
    """The pairs of each global step, over all ranks."""
    steps: list[set] = []
    for rank in range(plan.world_size):
        for number, micro in enumerate(plan.rank_micro_batches(epoch, rank)):
            step = number // plan.micro_batches_per_step
            steps += [set()] * (step + 1 - len(steps))
            assert not steps[step] & set(micro.occurrences)
            steps[step] = steps[step] | set(micro.occurrences)
            assert len(micro.occurrences) <= plan.micro_batch_size
            assert micro.last_of_step == ((number + 1) % plan.micro_batches_per_step == 0)
    return steps


def test_an_epoch_holds_every_record_once_and_epochs_differ() -> None:
    plan = Plan(index_of([7, 1, 12, 5]), seed=3, global_batch_size=4, micro_batch_size=2)
    orders = [plan.epoch_order(epoch)[:, 0].tolist() for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(25)) and orders[0] == orders[2] != orders[1]
    assert orders[0] != Plan(plan.index, 4, 4, 2).epoch_order(0)[:, 0].tolist()
    assert [len(step) for step in steps_of(plan)] == [4] * 6 + [1]


@pytest.mark.parametrize(("world", "micro"), [(1, 8), (1, 3), (2, 2), (3, 1), (4, 4), (16, 1)])
def test_global_steps_do_not_depend_on_ranks_or_micro_batches(world: int, micro: int) -> None:
    index = index_of([9, 4, 13])
    expected = steps_of(Plan(index, 0, 8, 8))
    plan = Plan(index, 0, 8, micro, world)
    assert steps_of(plan) == expected
    lengths = {len(list(plan.rank_micro_batches(0, rank))) for rank in range(world)}
    assert lengths == {len(PlanSampler(plan, 0))}


def test_every_micro_batch_knows_the_size_of_its_step() -> None:
    plan = Plan(index_of([10]), 0, 8, 2, world_size=2)
    sizes = [micro.step_pairs for micro in plan.rank_micro_batches(0, 0)]
    assert sizes == [8, 8, 2, 2]


def test_starting_in_the_middle_continues_the_same_order() -> None:
    plan = Plan(index_of([9, 4, 13]), 0, 8, 2, world_size=2)
    whole = list(plan.rank_micro_batches(2, 1))
    for start in range(len(whole)):
        assert list(plan.rank_micro_batches(2, 1, start)) == whole[start:]


def test_repeat_time_counts_whole_occurrences_and_one_fixed_subset() -> None:
    index = index_of([40, 20], repeats=(2.5, 0.3, 1.0))
    copies = Plan(index, 0, 8, 2).copies
    per_set = [copies[index.records["dataset"] == number] for number in range(3)]
    assert sorted(per_set[0].tolist()) == [2] * 10 + [3] * 10
    assert per_set[1].sum() == 6 and per_set[1].max() == 1 and (per_set[2] == 1).all()
    plan = Plan(index, 0, 8, 2)
    assert len(plan.epoch_order(0)) == copies.sum() == 50 + 6 + 20
    chosen = [
        set(plan.epoch_order(epoch)[:, 0][index.records["dataset"][plan.epoch_order(epoch)[:, 0]] == 1])
        for epoch in (0, 5)
    ]
    assert chosen[0] == chosen[1]
    assert len({tuple(row) for row in plan.epoch_order(0)}) == copies.sum()  # each occurrence is new


def test_a_repeat_time_that_selects_nothing_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=(
            r"a repeat_time \(times the folder's weight\) of 0.01 selects none of the 30 records of the data set "
            r"'set1'; raise it to at least 0.033"
        ),
    ):
        Plan(index_of([60], repeats=(1.0, 0.01)), 0, 8, 2)


def test_an_epoch_can_be_cut_to_whole_steps() -> None:
    plan = Plan(index_of([20]), 0, 4, 2)
    short = Plan(plan.index, 0, 4, 2, max_steps=3)
    assert (plan.steps, short.steps, len(PlanSampler(short, 0))) == (5, 3, 6)
    assert list(short.rank_micro_batches(0, 0)) == list(plan.rank_micro_batches(0, 0))[:6]


def test_records_are_shuffled_within_a_window_of_shards_only() -> None:
    index = index_of([10] * 8)
    order = Plan(index, 0, 8, 2, window=2).epoch_order(0)[:, 0] // 10
    windows = [set(order[start : start + 20]) for start in range(0, 80, 20)]
    assert all(len(window) == 2 for window in windows) and len(set().union(*windows)) == 8


def test_validation_keeps_the_order_and_ignores_repeats() -> None:
    plan = Plan(index_of([5, 3], repeats=(3.0,)), 0, 2, 2, shuffle=False)
    assert plan.epoch_order(0).tolist() == [[record, 0] for record in range(8)]


def test_balance_is_near_the_best_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        costs = rng.integers(1, 100, 8)
        bins = balance(costs, 4, 2)
        assert sorted(item for items in bins for item in items) == list(range(8)) and all(
            len(items) == 2 for items in bins
        )
        ours = max(costs[items].sum() for items in bins)
        best = min(max(costs[list(pair)].sum() for pair in pairing) for pairing in pairings(list(range(8))))
        assert ours <= 1.34 * best


@pytest.mark.parametrize(("world", "budget"), [(1, 4000), (2, 4000), (3, 2500), (2, 100_000)])
def test_rows_keep_to_the_budget_and_every_rank_has_as_many(world: int, budget: int) -> None:
    index = index_of([30, 25])
    plan = Plan(index, 0, 16, 6, world, max_row_tokens=budget, epochs=2)
    free = Plan(index, 0, 16, 6, world)
    for epoch in (0, 1):
        assert steps_of(plan, epoch) == steps_of(free, epoch)
        for rank in range(world):
            rows = list(plan.rank_micro_batches(epoch, rank))
            assert len(rows) == plan.steps * plan.micro_batches_per_step
            for row in rows:
                tokens = tokens_of(plan, np.array([item.record for item in row.occurrences], dtype=int)).sum()
                assert tokens <= budget or len(row.occurrences) == 1
    assert (plan.micro_batches_per_step > free.micro_batches_per_step) == (budget < 100_000)


def test_no_pair_is_lost_in_an_epoch_that_was_not_looked_at() -> None:
    """A later epoch's fullest step needs more rows than the first epoch's: its limit gives way."""
    index = index_of([30, 25])
    plan, free = Plan(index, 0, 16, 6, 2, max_row_tokens=4000), Plan(index, 0, 16, 6, 2)
    rows = plan.world_size * plan.micro_batches_per_step
    needed = []
    for epoch in range(60):
        costs = tokens_of(plan, plan.epoch_order(epoch)[:, 0])
        needed.append(max(len(pack(costs[start : start + 16], 6, 4000)) for start in range(0, len(costs), 16)))
        assert steps_of(plan, epoch) == steps_of(free, epoch)
    assert max(needed) > rows >= needed[0]


def test_packing_needs_few_more_bins_than_the_sum_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs = rng.integers(1, 60, 40)
        bins = pack(costs, 40, 100)
        assert sorted(item for items in bins for item in items) == list(range(40)) and all(
            costs[items].sum() <= 100 for items in bins
        )
        assert len(bins) <= 11 / 9 * np.ceil(costs.sum() / 100) + 1  # Dosa 2007: 11/9 of the best, plus 6/9
    assert pack(np.array([500, 3, 3, 3]), 2, 10) == [[0], [1, 2], [3]]


def pairings(items: list[int]) -> list[list[tuple[int, int]]]:
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    return [[(first, other), *tail] for other in rest for tail in pairings([item for item in rest if item != other])]
